import { and, drizzle, eq, inArray, nowSql } from '../pg/drizzle.ts';
import type { Client } from 'pg';
import type { CreatedSubscription, LogStart, NewSubscription } from '../../delivery/ports/store.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import type { Now } from '../pg/now.ts';
import { claimsChanged, logStart } from './claims.ts';
import { subscriptionColumns } from './group-rows.ts';
import { subscriptions } from '../schema/group-schema.ts';
import { present } from '../../errors/present.ts';

/**
 * Creates subscriptions with their cursors, or finds the active one of a group and topic.
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
  const db = drizzle({ client });
  const values = wanted.map(({ groupId, topicId }) => ({ groupId, topicId, createdAt: nowSql(now) }));
  const made = await db.insert(subscriptions).values(values).onConflictDoNothing().returning(subscriptionColumns);
  const groupIds = [...new Set(wanted.map(({ groupId }) => groupId))];
  const active = await db
    .select(subscriptionColumns)
    .from(subscriptions)
    .where(and(inArray(subscriptions.groupId, groupIds), eq(subscriptions.state, 'ACTIVE')));
  const key = ({ groupId, topicId }: { groupId: number; topicId: number }): string => `${groupId}/${topicId}`;
  const ids = new Map(made.map((row) => [key(row), row.id]));
  await createCursors(
    client,
    wanted.flatMap((one) => {
      const id = ids.get(key(one));
      // A subscription that a call names twice is created once.
      ids.delete(key(one));
      return id === undefined ? [] : [{ id, offsets: one.offsets }];
    }),
  );
  await claimsChanged(
    client,
    made.map((row) => row.id),
  );
  const rows = new Map(active.map((row) => [key(row), row]));
  const named = wanted.map((one) => present(rows.get(key(one)), 'each subscription is made or found'));
  const starts = await readStarts(
    client,
    named.map((row) => row.id),
  );
  return named.map((row) => ({ ...row, starts: starts.get(row.id) ?? [] }));
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
async function readStarts(client: Client, ids: readonly number[]): Promise<Map<number, LogStart[]>> {
  const found = await client.query<[id: number, partition: number, lane: number, offset: number]>({
    rowMode: 'array',
    text: `SELECT subscription_id, partition, lane, coalesce(start_offset, committed_offset)::float8 FROM millrace.cursors
            WHERE subscription_id = ANY ($1::integer[]) ORDER BY subscription_id, partition, lane`,
    values: [arrayLiteral(ids)],
  });
  const starts = new Map<number, LogStart[]>();
  for (const [id, partition, lane, offset] of found.rows) {
    const of = starts.get(id) ?? [];
    starts.set(id, of);
    of.push({ partition, lane, offset });
  }
  return starts;
}

/** The groups of all active subscriptions, by subscription. */
export async function activeSubscriptions(client: Client): Promise<Map<number, number>> {
  const { rows } = await client.query<[id: number, groupId: number]>({
    rowMode: 'array',
    text: "SELECT id, group_id FROM millrace.subscriptions WHERE state = 'ACTIVE'",
  });
  return new Map(rows);
}

/** Cancels an active subscription. Its row and its cursors stay. */
export async function cancelSubscription(client: Client, subscriptionId: number, now: Now): Promise<void> {
  await drizzle({ client })
    .update(subscriptions)
    .set({ state: 'CANCELLED', cancelledAt: nowSql(now) })
    .where(and(eq(subscriptions.id, subscriptionId), eq(subscriptions.state, 'ACTIVE')));
}
