import pg from 'pg';

/**
 * Groups as a broker leaves them, written straight into the database of a broker that is stopped: each with so many members that have a
 * session and one subscription, to a topic that exists, with all cursors and assignments. Member `m` of group `g` is `member-g-m`.
 */
export async function fillGroups(
  databaseUrl: string,
  fill: { readonly groups: number; readonly membersPerGroup: number; readonly topic: string },
): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'millrace-bench' });
  await client.connect();
  try {
    await client.query('BEGIN');
    const { groups, membersPerGroup, topic } = fill;
    await client.query(
      `INSERT INTO millrace.consumer_groups (name, generation) SELECT 'group-' || g, 1 FROM generate_series(1, $1::integer) AS g`,
      [groups],
    );
    await client.query(
      `INSERT INTO millrace.subscriptions (group_id, topic_id)
       SELECT g.id, t.id FROM millrace.consumer_groups AS g, millrace.topics AS t WHERE t.name = $1`,
      [topic],
    );
    await client.query(
      `INSERT INTO millrace.cursors (subscription_id, partition, lane, committed_offset)
       SELECT s.id, p.partition, 0, 0 FROM millrace.subscriptions AS s JOIN millrace.partitions AS p USING (topic_id)`,
    );
    await client.query(
      `INSERT INTO millrace.group_members (group_id, member_id, client_id, host, kind, session_timeout_ms,
         rebalance_timeout_ms, assignor, join_seq, topic_ids)
       SELECT g.id, 'member-' || substr(g.name, 7) || '-' || m, 'bench', '127.0.0.1', 'CLASSIC', 1800000,
              60000, 'sticky', m, ARRAY[t.id]
         FROM millrace.consumer_groups AS g, generate_series(0, $1::integer - 1) AS m, millrace.topics AS t WHERE t.name = $2`,
      [membersPerGroup, topic],
    );
    // As sticky leaves it: dealt out in turn, so that whoever loads it finds nothing to move.
    await client.query(
      `INSERT INTO millrace.group_assignments (group_id, topic_id, partition, member_id, since_generation)
       SELECT g.id, t.id, p.partition, 'member-' || substr(g.name, 7) || '-' || p.partition % $1::integer, 1
         FROM millrace.consumer_groups AS g, millrace.topics AS t JOIN millrace.partitions AS p ON p.topic_id = t.id
        WHERE t.name = $2`,
      [membersPerGroup, topic],
    );
    await client.query('COMMIT');
    await client.query('ANALYZE');
  } finally {
    await client.end();
  }
}
