import pg from 'pg';

/**
 * The usual queue on PostgreSQL, tuned as its friends would: payloads stored once, one row per message and group,
 * claimed in batches under SKIP LOCKED and deleted in the same transaction, autovacuum quick and unthrottled.
 */
const statements = [
  `CREATE TABLE peer_message (
     id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
     payload text NOT NULL
   )`,
  // Random payloads do not compress: do not try.
  'ALTER TABLE peer_message ALTER COLUMN payload SET STORAGE EXTERNAL',
  `CREATE TABLE peer_delivery (
     group_no int NOT NULL,
     message_id bigint NOT NULL,
     PRIMARY KEY (group_no, message_id)
   ) WITH (
     autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
     autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
   )`,
];

export const publishStatement = `
  WITH message AS (INSERT INTO peer_message (payload) SELECT unnest($1::text[]) RETURNING id)
  INSERT INTO peer_delivery (group_no, message_id)
  SELECT group_no, id FROM message, generate_series(1, $2::int) AS group_no`;

/**
 * Deletes what it hands out; the transaction stays open until the handler is done, so a consumer that dies gives its
 * messages back. A claim by ORDER BY with LIMIT walks the primary key and stops, whatever the backlog.
 */
export const claimStatement = `
  WITH claimed AS (
    SELECT group_no, message_id FROM peer_delivery WHERE group_no = $1
    ORDER BY message_id LIMIT $2 FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM peer_delivery AS delivery USING claimed
    WHERE delivery.group_no = claimed.group_no AND delivery.message_id = claimed.message_id
    RETURNING delivery.message_id
  )
  SELECT message.id, message.payload FROM gone JOIN peer_message AS message ON message.id = gone.message_id`;

export async function createPeerSchema(databaseUrl: string): Promise<void> {
  const client = await connectPeer(databaseUrl);
  for (const statement of statements) await client.query(statement);
  await client.end();
}

/** Between points of the benchmark: each starts on empty tables. */
export async function emptyPeerTables(databaseUrl: string): Promise<void> {
  const client = await connectPeer(databaseUrl);
  await client.query('TRUNCATE peer_message, peer_delivery');
  await client.end();
}

/** Statements that are sent without waiting for the ones before: a commit and the next claim are one round trip. */
export async function connectPeer(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'peer',
    pipeline: true,
  });
  client.on('error', () => undefined);
  await client.connect();
  // With next to no statistics on fresh tables a hash join over everything looks cheap; the loops are what is meant.
  await client.query('SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET jit = off');
  return client;
}
