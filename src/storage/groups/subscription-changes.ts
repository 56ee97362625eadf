import type { Client } from 'pg';
import {
  lifeOf,
  type LogStart,
  type SubscriptionChange,
  type SubscriptionInput,
  type SubscriptionRow,
} from '../../delivery/ports/store.ts';
import { step, type LifeInput, type SubscriptionLife } from '../../subscription/life.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { drizzle, eq, sql } from '../pg/drizzle.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { oneRow } from '../pg/one-row.ts';
import { subscriptions } from '../schema/group-schema.ts';
import { claimsChanged, lockTopicsOf } from './claims.ts';
import { auditEnds } from './subscription-audit.ts';
import { readSubscriptions } from './subscriptions.ts';

/**
 * Changes the life of one subscription by the machine. A CANCEL writes cursors too, so it runs on
 * the connection of the folds, and the others on that of the groups.
 */
export async function changeSubscription(
  client: Client,
  id: number,
  input: SubscriptionInput,
  now: Now,
): Promise<SubscriptionChange> {
  await lockTopicsOf(client, 'id = $1', [id]);
  // Inserts that refer to the row go on meanwhile.
  await client.query('SELECT 1 FROM millrace.subscriptions WHERE id = $1 FOR NO KEY UPDATE', [id]);
  const [row] = await readSubscriptions(client, { ids: [id] }, now);
  if (row === undefined) return { type: 'GONE' };
  const outcome = step(lifeOf(row), await lifeInputOf(client, row, input), await timeOf(client, now));
  if (outcome.type === 'FORBIDDEN') return outcome;
  if (outcome.type === 'SAME') return { type: 'STORED', row };
  if (input.type === 'CANCEL') await endClaim(client, id, input, now);
  await write(client, row, outcome.life);
  if (outcome.claim === 'CHANGED') await claimsChanged(client, [id]);
  const [changed = row] = await readSubscriptions(client, { ids: [id] }, now);
  return { type: 'STORED', row: changed };
}

async function lifeInputOf(client: Client, row: SubscriptionRow, input: SubscriptionInput): Promise<LifeInput> {
  if (input.type !== 'RESUME') return input.type === 'UPDATE' ? input : { type: input.type };
  const found = await client.query('SELECT 1 FROM millrace.group_members WHERE group_id = $1 LIMIT 1', [row.groupId]);
  return { type: 'RESUME', isAttended: found.rows.length > 0 };
}

async function timeOf(client: Client, now: Now): Promise<number> {
  const text = `SELECT floor(extract(epoch FROM ${nowOf('$1')}) * 1000)::float8 AS ms`;
  return oneRow(await client.query<{ ms: number }>(text, [now()])).ms;
}

async function endClaim(
  client: Client,
  subscriptionId: number,
  { ends, owedRecords }: { readonly ends: readonly LogStart[]; readonly owedRecords: number },
  now: Now,
): Promise<void> {
  await client.query(
    `UPDATE millrace.cursors AS c SET end_offset = w.end_offset
       FROM unnest($2::integer[], $3::integer[], $4::bigint[]) AS w (partition, lane, end_offset)
      WHERE c.subscription_id = $1 AND c.partition = w.partition AND c.lane = w.lane`,
    [
      subscriptionId,
      arrayLiteral(ends.map(({ partition }) => partition)),
      arrayLiteral(ends.map(({ lane }) => lane)),
      arrayLiteral(ends.map(({ offset }) => offset)),
    ],
  );
  if (owedRecords > 0) await auditEnds(client, 'CANCELLED', [{ subscriptionId, records: owedRecords }], now);
}

async function write(client: Client, before: SubscriptionRow, life: SubscriptionLife): Promise<void> {
  const { state, reason, changedAtMs, deadAfterMs, unattendedSinceMs } = life;
  await drizzle({ client })
    .update(subscriptions)
    .set({
      state,
      stateReason: reason,
      deadAfterMs,
      // A time that stays keeps its microseconds.
      ...(changedAtMs !== before.stateChangedAtMs && { stateChangedAt: timeAt(changedAtMs) }),
      ...(state !== before.state && state === 'CANCELLED' && { cancelledAt: timeAt(changedAtMs) }),
      ...(unattendedSinceMs !== before.unattendedSinceMs && { unattendedSince: timeAt(unattendedSinceMs) }),
    })
    .where(eq(subscriptions.id, before.id));
}

function timeAt(ms: number | null) {
  return sql<Date>`to_timestamp(${ms}::float8 / 1000)`;
}
