import type { Client } from 'pg';
import type { CreatedSubscription, LogStart, NewSubscription, SubscriptionRow } from '../../delivery/ports/store.ts';
import { present } from '../../errors/present.ts';
import { createdLife } from '../../subscription/life.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { and, asc, drizzle, ne, nowSql, sql } from '../pg/drizzle.ts';
import { epochMs } from '../pg/epoch.ts';
import type { Now } from '../pg/now.ts';
import { subscriptions } from '../schema/group-schema.ts';
import { claimsChanged, logStart } from './claims.ts';

/** The columns of a subscription for the broker. */
function subscriptionColumns(now: Now) {
  const {
    id,
    groupId,
    topicId,
    createdAt,
    state,
    stateReason,
    stateChangedAt,
    deadAfterMs,
    unattendedSince,
    claimSeq,
  } = subscriptions;
  const age = sql<number | null>`greatest(0, extract(epoch FROM ${nowSql(now)} - ${unattendedSince}) * 1000)::float8`;
  return {
    id,
    groupId,
    topicId,
    createdAtMs: epochMs(createdAt),
    state,
    stateReason,
    stateChangedAtMs: epochMs(stateChangedAt),
    deadAfterMs,
    unattendedSinceMs: sql<number | null>`floor(extract(epoch FROM ${unattendedSince}) * 1000)::float8`,
    // Without a time the greatest of 0 and null would be 0.
    unattendedForMs: sql<number | null>`CASE WHEN ${unattendedSince} IS NOT NULL THEN ${age} END`,
    claimSeq,
  };
}

/** Subscriptions by their ids, or those of groups that are not cancelled, in the order of ids. */
export function readSubscriptions(
  client: Client,
  which: { readonly ids: readonly number[] } | { readonly groupIds: readonly number[] },
  now: Now,
): Promise<SubscriptionRow[]> {
  const { id, groupId, state } = subscriptions;
  const named =
    'ids' in which
      ? sql`${id} = ANY (${arrayLiteral(which.ids)}::integer[])`
      : and(sql`${groupId} = ANY (${arrayLiteral(which.groupIds)}::integer[])`, ne(state, 'CANCELLED'));
  return drizzle({ client }).select(subscriptionColumns(now)).from(subscriptions).where(named).orderBy(asc(id));
}

/**
 * Creates subscriptions with their cursors, or finds that of a group and topic which is not
 * cancelled.
 *
 * @returns them in the order of `wanted`.
 */
export async function createSubscriptions(
  client: Client,
  wanted: readonly NewSubscription[],
  now: Now,
): Promise<CreatedSubscription[]> {
  if (wanted.length === 0) return [];
  // The start of a log does not move, and the topic does not grow, until the commit.
  await client.query('SELECT 1 FROM millrace.topics WHERE id = ANY ($1::integer[]) ORDER BY id FOR KEY SHARE', [
    arrayLiteral(wanted.map(({ topicId }) => topicId)),
  ]);
  const values = wanted.map(({ groupId, topicId, deadAfterMs }) => {
    // The database gives the times.
    const { state, reason: stateReason } = createdLife(deadAfterMs, 0);
    const createdAt = nowSql(now);
    return { groupId, topicId, deadAfterMs, state, stateReason, createdAt, stateChangedAt: createdAt };
  });
  const { id, groupId, topicId } = subscriptions;
  const made = await drizzle({ client })
    .insert(subscriptions)
    .values(values)
    .onConflictDoNothing()
    .returning({ id, groupId, topicId });
  const ids = new Map(made.map((row) => [keyOf(row), row.id]));
  await createCursors(
    client,
    wanted.flatMap((one) => {
      const id = ids.get(keyOf(one));
      // A subscription that a call names twice is created once.
      ids.delete(keyOf(one));
      return id === undefined ? [] : [{ id, offsets: one.offsets }];
    }),
  );
  await claimsChanged(
    client,
    made.map((row) => row.id),
  );
  const found = await readSubscriptions(client, { groupIds: wanted.map(({ groupId }) => groupId) }, now);
  const rows = new Map(found.map((row) => [keyOf(row), row]));
  const named = wanted.map((one) => present(rows.get(keyOf(one)), 'each subscription is made or found'));
  const starts = await readStarts(client, named);
  return named.map((row) => ({ row, starts: starts.get(row.id) ?? [] }));
}

function keyOf({ groupId, topicId }: { readonly groupId: number; readonly topicId: number }): string {
  return `${groupId}/${topicId}`;
}

/**
 * Creates cursors at the chosen starts, and at 0 in partitions that the topic got later, but never
 * below the start of the log. The caller has locked the topics.
 */
async function createCursors(
  client: Client,
  starts: readonly { readonly id: number; readonly offsets: readonly LogStart[] }[],
): Promise<void> {
  if (starts.length === 0) return;
  await client.query(
    `INSERT INTO millrace.cursors (subscription_id, partition, lane, committed_offset, start_offset)
     SELECT subscription_id, partition, lane, start, start
       FROM (
         SELECT subscription_id, partition, lane, greatest(coalesce(chosen.committed_offset, 0), coalesce(present.log_start, 0)) AS start
           FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::bigint[])
                AS chosen (subscription_id, partition, lane, committed_offset)
           FULL JOIN (
             SELECT s.id AS subscription_id, p.partition, 0 AS lane, ${logStart('s.topic_id', 'p.partition', '0')} AS log_start
               FROM millrace.subscriptions AS s JOIN millrace.partitions AS p USING (topic_id) WHERE s.id = ANY ($5::integer[])
           ) AS present USING (subscription_id, partition, lane)
       ) AS started`,
    [
      arrayLiteral(starts.flatMap(({ id, offsets }) => offsets.map(() => id))),
      arrayLiteral(starts.flatMap(({ offsets }) => offsets.map(({ partition }) => partition))),
      arrayLiteral(starts.flatMap(({ offsets }) => offsets.map(({ lane }) => lane))),
      arrayLiteral(starts.flatMap(({ offsets }) => offsets.map(({ offset }) => offset))),
      arrayLiteral(starts.map(({ id }) => id)),
    ],
  );
}

/** Where the claims begin. Those from before that was kept begin at the committed offset. */
async function readStarts(client: Client, rows: readonly SubscriptionRow[]): Promise<Map<number, LogStart[]>> {
  const found = await client.query<[id: number, partition: number, lane: number, offset: number]>({
    rowMode: 'array',
    text: `SELECT subscription_id, partition, lane, coalesce(start_offset, committed_offset)::float8 FROM millrace.cursors
            WHERE subscription_id = ANY ($1::integer[]) ORDER BY subscription_id, partition, lane`,
    values: [arrayLiteral(rows.map(({ id }) => id))],
  });
  const starts = new Map<number, LogStart[]>();
  for (const [id, partition, lane, offset] of found.rows) {
    const of = starts.get(id) ?? [];
    starts.set(id, of);
    of.push({ partition, lane, offset });
  }
  return starts;
}

/** The groups of all subscriptions that are not cancelled, by subscription. */
export async function activeSubscriptions(client: Client): Promise<Map<number, number>> {
  const { rows } = await client.query<[id: number, groupId: number]>({
    rowMode: 'array',
    text: "SELECT id, group_id FROM millrace.subscriptions WHERE state <> 'CANCELLED'",
  });
  return new Map(rows);
}
