import type { ClientBase } from 'pg';
import { appliedVersion, refuseNewerSchema, UnfitDatabase } from './migrate.ts';
import { oneRow } from '../pg/one-row.ts';

const versionMin = 140_000;

/**
 * Rejects a schema that is newer than this version, even for a broker that stands by.
 *
 * @throws UnfitDatabase
 */
export async function checkSchemaVersion(client: ClientBase): Promise<void> {
  const answer = await client.query<{ there: boolean }>(
    "SELECT to_regclass('millrace.migrations') IS NOT NULL AS there",
  );
  if (oneRow(answer).there) refuseNewerSchema(await appliedVersion(client));
}

/** Checks the needs of a broker before anything is written. @throws UnfitDatabase */
export async function checkDatabase(client: ClientBase, allowUnsafe: boolean): Promise<void> {
  const answer = await client.query<{
    version: string;
    fsync: string;
    full_page_writes: string;
    may_create: boolean;
    may_use: boolean;
    owns_tables: boolean;
    encoding: string;
    database: string;
    in_recovery: boolean;
  }>(
    `SELECT current_setting('server_version_num') AS version, current_setting('fsync') AS fsync,
            current_setting('full_page_writes') AS full_page_writes, current_database() AS database,
            has_database_privilege(current_database(), 'CREATE') OR to_regnamespace('millrace') IS NOT NULL AS may_create,
            coalesce(has_schema_privilege(to_regnamespace('millrace')::oid, 'CREATE')
                     AND has_schema_privilege(to_regnamespace('millrace')::oid, 'USAGE'), true) AS may_use,
            NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('millrace') AND relkind IN ('r', 'p')
                           AND NOT pg_has_role(relowner, 'USAGE')) AS owns_tables,
            current_setting('server_encoding') AS encoding,
            pg_is_in_recovery() AS in_recovery`,
  );
  const found = oneRow(answer);
  if (Number(found.version) < versionMin) {
    throw new UnfitDatabase(`PostgreSQL 14 or newer is needed, and this is ${Number(found.version) / 10_000}`);
  }
  if (found.encoding !== 'UTF8') {
    throw new UnfitDatabase(
      `the encoding of the database "${found.database}" is ${found.encoding}, and only UTF8 holds every text: use one that was made with ENCODING 'UTF8'`,
    );
  }
  if (found.in_recovery) throw new UnfitDatabase('the database is a read-only replica: name its primary');
  if (!found.may_create) {
    throw new UnfitDatabase(`the role may not create a schema: GRANT CREATE ON DATABASE "${found.database}" TO it`);
  }
  if (!found.may_use || !found.owns_tables) {
    throw new UnfitDatabase('the schema millrace belongs to another role: connect as the role that made it');
  }
  for (const name of ['fsync', 'full_page_writes'] as const) {
    if (found[name] === 'off' && !allowUnsafe) {
      throw new UnfitDatabase(
        `${name} is off, and a crash of the database loses confirmed messages: turn it on, or say --allow-unsafe-database`,
      );
    }
  }
}
