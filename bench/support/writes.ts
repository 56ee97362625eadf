import pg from 'pg';

/** What a server has written since it was made. Exact at once, unlike its statistics of tables, which come up to 10 s late. */
export interface Writes {
  /** Transactions that wrote something: each takes the next transaction id. */
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
