import { createRequire } from 'node:module';
// Loads `pg` before drizzle-orm does, so that NODE_PG_FORCE_NATIVE does not choose the driver.
import './driver.ts';
import type { Now } from './now.ts';
import type * as Drizzle from 'drizzle-orm';
import type * as NodePostgres from 'drizzle-orm/node-postgres';
import type * as PgCore from 'drizzle-orm/pg-core';

/**
 * Loads Drizzle in its CommonJS form, which takes 0.1 s of every start. Its 107 ES modules take 0.5
 * s, because Node reads the package's `exports` (180 KB) again for each of them.
 */
const require = createRequire(import.meta.url);

export const { and, asc, desc, DrizzleQueryError, eq, getTableColumns, inArray, isNotNull, ne, sql } =
  require('drizzle-orm') as typeof Drizzle;
export const { drizzle } = require('drizzle-orm/node-postgres') as typeof NodePostgres;
export const {
  bigint,
  customType,
  index,
  integer,
  jsonb,
  pgSchema,
  primaryKey,
  text,
  timestamp,
  unique,
  uniqueIndex,
  boolean,
} = require('drizzle-orm/pg-core') as typeof PgCore;

/** The present time in Drizzle's statements; `nowOf` is the same for statements in text. */
export function nowSql(now: Now): Drizzle.SQL<Date> {
  return sql<Date>`coalesce(${now()}::timestamptz, clock_timestamp())`;
}
