import type { Client } from 'pg';
import type { ListedGroup } from '../../delivery/ports/store.ts';
import { parseArrayLiteral } from '../pg/array-literal.ts';

type ListedRow = [
  id: number,
  name: string,
  topicIds: string,
  cursors: number,
  notes: number,
  noteBytes: number,
  holes: number,
  attempts: number,
  members: number,
  memberBytes: number,
];

/**
 * All groups with their sizes, in the order of their ids. Cursors are summed up by subscription
 * first, because a million of them then need one pass and a small table.
 */
export async function listGroups(client: Client): Promise<ListedGroup[]> {
  const { rows } = await client.query<ListedRow>({
    rowMode: 'array',
    text: `
      WITH per_subscription AS (
        SELECT subscription_id, count(*) AS cursors, count(metadata) AS notes,
               coalesce(sum(octet_length(metadata)), 0) AS note_bytes,
               sum(cardinality(acked)) / 2 AS holes, sum(cardinality(attempts)) / 2 AS attempts
          FROM millrace.cursors GROUP BY subscription_id
      ), subscribed AS (
        SELECT group_id, array_agg(topic_id)::text AS topic_ids, sum(cursors) AS cursors, sum(notes) AS notes,
               sum(note_bytes) AS note_bytes, sum(holes) AS holes, sum(attempts) AS attempts
          FROM millrace.subscriptions LEFT JOIN per_subscription ON subscription_id = id
         WHERE state <> 'CANCELLED' GROUP BY group_id
      ), joined AS (
        SELECT group_id, count(*) AS members,
               sum(octet_length(metadata) + octet_length(member_id) + octet_length(client_id) + octet_length(host)
                   + coalesce(octet_length(instance_id), 0)) AS member_bytes
          FROM millrace.group_members GROUP BY group_id
      )
      SELECT id, name, coalesce(topic_ids, '{}'), coalesce(cursors, 0)::float8, coalesce(notes, 0)::float8,
             coalesce(note_bytes, 0)::float8, coalesce(holes, 0)::float8, coalesce(attempts, 0)::float8,
             coalesce(members, 0)::float8, coalesce(member_bytes, 0)::float8
        FROM millrace.consumer_groups
        LEFT JOIN subscribed ON subscribed.group_id = id
        LEFT JOIN joined ON joined.group_id = id
       ORDER BY id`,
  });
  return rows.map(([id, name, topicIds, cursors, notes, noteBytes, holes, attempts, members, memberBytes]) => ({
    id,
    name,
    size: { topicIds: parseArrayLiteral(topicIds), cursors, notes, noteBytes, holes, attempts, members, memberBytes },
  }));
}
