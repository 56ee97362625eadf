import type { Client } from 'pg';
import { nowOf, type Now } from '../pg/now.ts';
import { rangesOf } from './ranges.ts';
import { endsQuery } from './segments.ts';

/**
 * Writes what goes with a topic, whose locks the caller has, into the audit: each segment with its
 * records, and the topic's own table as segment 0. Their tables are dropped later.
 */
export async function planDeletion(
  client: Client,
  { id, segment }: { readonly id: number; readonly segment: number },
  now: Now,
): Promise<void> {
  const edges = `SELECT segment, partition, lane, base_offset FROM millrace.segment_bases WHERE topic_id = $1
    UNION ALL SELECT ${segment + 1}, partition, lane, end_offset FROM (${endsQuery(id, segment)}) AS ends`;
  await client.query(
    `INSERT INTO millrace.segment_drops (topic_id, segment, topic_name, reason, planned_at, bytes,
                                         partitions, lanes, first_offsets, last_offsets)
     SELECT t.id, s.segment, t.name, 'TOPIC_DELETED', ${nowOf('$2')}, coalesce(s.bytes, 0), coalesce(r.partitions, '{}'),
            coalesce(r.lanes, '{}'), coalesce(r.first_offsets, '{}'), coalesce(r.last_offsets, '{}')
       FROM millrace.topics AS t
       JOIN (SELECT topic_id, segment, bytes FROM millrace.segments UNION ALL SELECT $1, 0, 0) AS s ON s.topic_id = t.id
       LEFT JOIN (${rangesOf(edges)}) AS r ON r.segment = s.segment
      WHERE t.id = $1`,
    [id, now()],
  );
}
