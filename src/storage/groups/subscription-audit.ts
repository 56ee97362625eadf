import type { Client } from 'pg';
import type { GroupEnd, OwedRecords } from '../../delivery/ports/store.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { nowOf, type Now } from '../pg/now.ts';

/** Writes audit rows of subscriptions that end now, with the state that they still have. */
export async function auditEnds(
  client: Client,
  reason: GroupEnd | 'CANCELLED',
  ended: readonly OwedRecords[],
  now: Now,
): Promise<void> {
  if (ended.length === 0) return;
  await client.query(
    `INSERT INTO millrace.subscription_audit (subscription_id, group_name, topic_id, topic_name, state, reason, owed_records, at)
     SELECT s.id, g.name, t.id, t.name, s.state, $3, w.records, ${nowOf('$4')}
       FROM unnest($1::integer[], $2::bigint[]) AS w (id, records)
       JOIN millrace.subscriptions AS s ON s.id = w.id
       JOIN millrace.consumer_groups AS g ON g.id = s.group_id
       JOIN millrace.topics AS t ON t.id = s.topic_id
      ORDER BY s.id`,
    [
      arrayLiteral(ended.map(({ subscriptionId }) => subscriptionId)),
      arrayLiteral(ended.map(({ records }) => records)),
      reason,
      now(),
    ],
  );
}
