import pg from 'pg';

/**
 * The writes of a cluster since its creation. They are exact at once, while statistics of tables
 * lag up to 10 s.
 */
export interface Writes {
  /** Transactions with a write. Each takes the next transaction id. */
  readonly transactions: number;
  readonly walBytes: number;
}

export async function readWrites(databaseUrl: string): Promise<Writes> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'millrace-bench' });
  await client.connect();
  try {
    const { rows } = await client.query<{ transactions: string; bytes: string }>(
      `SELECT pg_snapshot_xmax(pg_current_snapshot()) AS transactions,
              pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS bytes`,
    );
    return { transactions: Number(rows[0]!.transactions), walBytes: Number(rows[0]!.bytes) };
  } finally {
    await client.end();
  }
}
