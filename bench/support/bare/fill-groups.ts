import pg from 'pg';

/**
 * Writes groups into the database of a stopped broker, as the broker would have left them. Each
 * group is subscribed to all topics and has all cursors. Its members have a session and hold all
 * partitions. Member `m` of group `g` is `member-g-m`.
 */
export async function fillGroups(
  databaseUrl: string,
  fill: { readonly groups: number; readonly membersPerGroup: number },
): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'millrace-bench' });
  await client.connect();
  try {
    await client.query('BEGIN');
    const { groups, membersPerGroup } = fill;
    await client.query(
      `INSERT INTO millrace.consumer_groups (name, generation) SELECT 'group-' || g, 1 FROM generate_series(1, $1::integer) AS g`,
      [groups],
    );
    await client.query(
      `INSERT INTO millrace.subscriptions (group_id, topic_id)
       SELECT g.id, t.id FROM millrace.consumer_groups AS g, millrace.topics AS t`,
    );
    await client.query(
      `INSERT INTO millrace.cursors (subscription_id, partition, lane, committed_offset)
       SELECT s.id, p.partition, 0, 0 FROM millrace.subscriptions AS s JOIN millrace.partitions AS p USING (topic_id)`,
    );
    await client.query(
      `INSERT INTO millrace.group_members (group_id, member_id, client_id, host, kind, session_timeout_ms,
         rebalance_timeout_ms, assignor, join_seq, topic_ids)
       SELECT g.id, 'member-' || substr(g.name, 7) || '-' || m, 'bench', '127.0.0.1', 'CLASSIC', 1800000,
              60000, 'sticky', m, ARRAY(SELECT id FROM millrace.topics ORDER BY id)
         FROM millrace.consumer_groups AS g, generate_series(0, $1::integer - 1) AS m`,
      [membersPerGroup],
    );
    // Partitions are dealt out in turn, as sticky does, so that a broker that loads them moves
    // none.
    await client.query(
      `INSERT INTO millrace.group_assignments (group_id, topic_id, partition, member_id, since_generation)
       SELECT g.id, t.id, p.partition, 'member-' || substr(g.name, 7) || '-' || p.partition % greatest($1::integer, 1), 1
         FROM millrace.consumer_groups AS g, millrace.topics AS t JOIN millrace.partitions AS p ON p.topic_id = t.id
        WHERE $1 > 0`,
      [membersPerGroup],
    );
    await client.query('COMMIT');
    await client.query('ANALYZE');
  } finally {
    await client.end();
  }
}

/**
 * Lets all partitions end at an offset, as if an older segment had the records before it. Nobody
 * may read them.
 */
export async function fillEnds(databaseUrl: string, endOffset: number): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'millrace-bench' });
  await client.connect();
  try {
    await client.query(
      `INSERT INTO millrace.segments (topic_id, segment, sealed_at, bytes)
       SELECT id, segment - 1, now(), 0 FROM millrace.topics`,
    );
    await client.query(
      `INSERT INTO millrace.segment_bases (topic_id, segment, partition, lane, base_offset, last_appended_at)
       SELECT p.topic_id, t.segment, p.partition, 0, $1, now()
         FROM millrace.partitions AS p JOIN millrace.topics AS t ON t.id = p.topic_id`,
      [endOffset],
    );
  } finally {
    await client.end();
  }
}
