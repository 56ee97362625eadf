import type { Client } from 'pg';
import { arrayLiteral } from '../pg/array-literal.ts';

/**
 * Locks the topics of subscriptions, in the order of ids, so that no drop is planned until the end
 * of the transaction. It waits for neither appends nor rolls.
 * @param condition on the columns of subscriptions.
 */
export async function lockTopicsOf(client: Client, condition: string, values: readonly unknown[]): Promise<void> {
  await client.query(
    `SELECT 1 FROM millrace.topics
      WHERE id = ANY (ARRAY(SELECT topic_id FROM millrace.subscriptions WHERE ${condition})) ORDER BY id FOR KEY SHARE`,
    [...values],
  );
}

/** Says that the claims of subscriptions have changed. The caller has locked their topics. */
export async function claimsChanged(client: Client, ids: readonly number[]): Promise<void> {
  if (ids.length > 0) await client.query('SELECT millrace.claims_changed($1::integer[])', [arrayLiteral(ids)]);
}

/** SQL for the start of a log: the base of the first segment that is there; null without one. */
export function logStart(topicId: string, partition: string, lane: string): string {
  return `(SELECT b.base_offset FROM millrace.segment_bases AS b
            WHERE b.topic_id = ${topicId} AND b.partition = ${partition} AND b.lane = ${lane}
              AND b.segment = (SELECT min(g.segment) FROM millrace.segments AS g WHERE g.topic_id = ${topicId}))`;
}
