import pg from 'pg';

/**
 * The usual queue on PostgreSQL, well tuned. Payloads are stored once, with one row per message and
 * group. Rows are claimed in batches under SKIP LOCKED and deleted in the same transaction.
 * Autovacuum runs often and unthrottled.
 */
const statements = [
  `CREATE TABLE peer_message (
     id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
     payload text NOT NULL
   )`,
  // Random payloads do not compress, so PostgreSQL should not try.
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
 * Claims and deletes messages. The transaction stays open until the handler is done, so that the
 * messages of a consumer that dies come back. ORDER BY with LIMIT walks the primary key, so the
 * cost of a claim does not depend on the backlog.
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

/** Empties the tables, so that each point of the benchmark starts from nothing. */
export async function emptyPeerTables(databaseUrl: string): Promise<void> {
  const client = await connectPeer(databaseUrl);
  await client.query('TRUNCATE peer_message, peer_delivery');
  await client.end();
}

/** Connects with pipelining, so that a commit and the next claim take one round trip. */
export async function connectPeer(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'peer',
    pipeline: true,
  });
  client.on('error', () => undefined);
  await client.connect();
  // Without statistics on fresh tables the planner would choose a hash join over all rows. These
  // settings make it use loops.
  await client.query('SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET jit = off');
  return client;
}
