import type { Client } from 'pg';
import type { DatabaseNumbers, NumbersStore, TableNumbers, XminHolder } from '../../metrics/database-numbers.ts';
import { oneRow } from '../pg/one-row.ts';
import type { Connection } from '../sessions/connection.ts';

/** A reading gives up soon, because a table that is being dropped is locked. */
export const numbersSettings = { lock_timeout: '1s', statement_timeout: '10s' };

/** Reads the numbers of the database for /metrics. */
export class PostgresNumbers implements NumbersStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  read(): Promise<DatabaseNumbers> {
    return this.#connection.run(async (client) => ({
      ...(await sizes(client)),
      holder: await xminHolder(client),
      tables: await tableNumbers(client),
    }));
  }
}

async function sizes(client: Client): Promise<Pick<DatabaseNumbers, 'walBytes' | 'bytes'>> {
  return oneRow(
    await client.query<Pick<DatabaseNumbers, 'walBytes' | 'bytes'>>(
      `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS "walBytes",
              pg_database_size(current_database())::float8 AS bytes`,
    ),
  );
}

/**
 * The oldest snapshot that VACUUM respects in this database. Every role sees the snapshots of all
 * sessions, but only some see when their transactions began.
 */
async function xminHolder(client: Client): Promise<XminHolder | null> {
  const { rows } = await client.query<XminHolder>(
    `WITH holders (transactions, seconds, pid, application) AS (
       SELECT greatest(age(backend_xmin), age(backend_xid)), extract(epoch FROM clock_timestamp() - xact_start), pid, application_name
         FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND coalesce(backend_type, '') <> 'autovacuum worker'
          -- A snapshot holds back its own database, and a transaction with an id all of them.
          AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL AND coalesce(datname = current_database(), true))
       UNION ALL
       SELECT age(transaction), extract(epoch FROM clock_timestamp() - prepared), NULL, gid FROM pg_prepared_xacts
       UNION ALL
       SELECT greatest(age(xmin), age(catalog_xmin)), NULL, active_pid, slot_name::text
         FROM pg_replication_slots WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
     )
     SELECT transactions, seconds::float8 AS seconds, pid, application
       FROM holders ORDER BY transactions DESC, seconds DESC NULLS LAST LIMIT 1`,
  );
  return rows[0] ?? null;
}

/** The heads of a row and of its pointer, and the share of a page that rows can use. */
const rowHeadBytes = 28;
const pageRowBytes = 8_168;
const pageBytes = 8_192;

/**
 * The bytes of segments are those of the last vacuum, because a lock of 10,000 tables takes long.
 * Bloat is the size beyond that of the rows with the widths that ANALYZE found. Segments have none:
 * nothing in them is updated, and they are dropped as a whole.
 */
async function tableNumbers(client: Client): Promise<TableNumbers[]> {
  const { rows } = await client.query<TableNumbers>(
    `WITH own AS (
       SELECT c.oid, regexp_replace(c.relname, '(_\\d+)+$', '') AS name, c.relname, c.relname ~ '^record_batches_' AS is_segment,
              (c.relpages + coalesce(t.relpages, 0))::float8 * ${pageBytes} AS vacuumed_bytes
         FROM pg_class AS c LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
        WHERE c.relnamespace = to_regnamespace('millrace') AND c.relkind = 'r'
     ), widths AS (
       SELECT tablename, ${rowHeadBytes} + sum((1 - null_frac) * avg_width) AS bytes
         FROM pg_stats WHERE schemaname = 'millrace' AND tablename !~ '^record_batches_' GROUP BY tablename
     )
     SELECT name AS table, sum(pg_stat_get_dead_tuples(oid))::float8 AS "deadTuples",
            sum(CASE WHEN is_segment THEN vacuumed_bytes ELSE pg_table_size(oid) END)::float8 AS bytes,
            sum(CASE WHEN is_segment OR widths.bytes IS NULL THEN NULL
                     ELSE greatest(0, pg_relation_size(oid)
                                      - ceil(pg_stat_get_live_tuples(oid) * widths.bytes / ${pageRowBytes}) * ${pageBytes}) END)::float8 AS "bloatBytes"
       FROM own LEFT JOIN widths ON widths.tablename = own.relname
      GROUP BY name ORDER BY name`,
  );
  return rows;
}
