import { createRequire } from 'node:module';
// Loads `pg`, which drizzle-orm loads too: the environment must not choose which one it is.
import './driver.ts';
import type { Now } from './now.ts';
import type * as Drizzle from 'drizzle-orm';
import type * as NodePostgres from 'drizzle-orm/node-postgres';
import type * as PgCore from 'drizzle-orm/pg-core';

/**
 * Drizzle, in its CommonJS form: as ES modules its 107 files take 0.5 s of every start, because Node reads the package's
 * `exports` (180 KB) anew for each of them; this way it is 0.1 s.
 */
const require = createRequire(import.meta.url);

export const { and, asc, desc, DrizzleQueryError, eq, getTableColumns, inArray, isNotNull, isNull, sql } =
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

/** The present, as `nowOf` has it in statements that are text. */
export function nowSql(now: Now): Drizzle.SQL<Date> {
  return sql<Date>`coalesce(${now()}::timestamptz, clock_timestamp())`;
}
