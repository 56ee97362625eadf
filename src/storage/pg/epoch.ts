import type * as PgCore from 'drizzle-orm/pg-core';
import { sql } from './drizzle.ts';

/** A time in milliseconds since the epoch. As text a time is in the order of day and month that DateStyle says. */
export function epochMs(column: PgCore.AnyPgColumn) {
  return sql<number>`floor(extract(epoch FROM ${column}) * 1000)::bigint`.mapWith(Number);
}
