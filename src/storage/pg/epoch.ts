import type * as PgCore from 'drizzle-orm/pg-core';
import { sql } from './drizzle.ts';

/** A time in milliseconds since the epoch, because its text form depends on DateStyle. */
export function epochMs(column: PgCore.AnyPgColumn) {
  return sql<number>`floor(extract(epoch FROM ${column}) * 1000)::bigint`.mapWith(Number);
}
