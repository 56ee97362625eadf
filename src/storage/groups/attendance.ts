import type { Client } from 'pg';
import type { SubscriptionRow } from '../../delivery/ports/store.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { claimsChanged, lockTopicsOf } from './claims.ts';
import { readSubscriptions } from './subscriptions.ts';

/**
 * The lives of many subscriptions in a few statements: these are ATTENDED, LEFT and LOOK of
 * `src/subscription` in SQL. A suite compares them with the machine.
 */

/** What a save does to the members of a group. Other groups do not belong in here. */
export interface GroupAttendance {
  readonly groupId: number;
  /** Whether the save puts a member, which may leave in the same save. */
  readonly came: boolean;
  /** The time since the last sign of life; null: this broker heard none. */
  readonly heardAgoMs: number | null;
}

/**
 * Locks the topics of the DEAD subscriptions that members will revive, before any group is locked.
 * The connection is the only one that ends or revives lives, so the answer holds.
 */
export async function lockTopicsOfDead(client: Client, groupIds: readonly number[]): Promise<void> {
  if (groupIds.length === 0) return;
  await lockTopicsOf(client, "group_id = ANY ($1::integer[]) AND state = 'DEAD'", [arrayLiteral(groupIds)]);
}

/**
 * Follows a save of the groups' members. An attended subscription has no time without a member, and
 * is not DEAD. Without one it counts from the last sign of life that this broker has got, else from
 * the last renewal of the owner that got one last: by default the owner before.
 * @returns the subscriptions that have changed.
 */
export async function saveAttendance(
  client: Client,
  groups: readonly GroupAttendance[],
  now: Now,
): Promise<SubscriptionRow[]> {
  if (groups.length === 0) return [];
  const present = nowOf('$4');
  const { rows } = await client.query<[id: number, wasDead: boolean]>({
    rowMode: 'array',
    // The rows are locked in the order of ids before the first of them is written.
    text: `WITH saved AS MATERIALIZED (
        SELECT v.group_id, v.came, EXISTS (SELECT FROM millrace.group_members AS m WHERE m.group_id = v.group_id) AS attended,
               least(${present}, coalesce(${present} - v.heard_ago_ms * interval '1 millisecond',
                                          heard_in.renewed_at, ${present})) AS heard_at
          FROM unnest($1::integer[], $2::boolean[], $3::float8[]) AS v (group_id, came, heard_ago_ms)
          LEFT JOIN millrace.consumer_groups AS g ON g.id = v.group_id
          LEFT JOIN LATERAL (
            SELECT e.renewed_at FROM millrace.broker_epochs AS e
             WHERE e.epoch >= coalesce(g.heard_epoch, (SELECT max(epoch) FROM millrace.broker_epochs)) ORDER BY e.epoch LIMIT 1
          ) AS heard_in ON true
      ), due AS MATERIALIZED (
        SELECT s.id, s.state = 'DEAD' AS was_dead, saved.attended, saved.came, saved.heard_at
          FROM saved JOIN millrace.subscriptions AS s USING (group_id)
         WHERE s.state <> 'CANCELLED'
           AND CASE WHEN saved.attended THEN s.unattended_since IS NOT NULL OR s.state = 'DEAD'
                    WHEN saved.came THEN true
                    ELSE s.unattended_since IS NULL AND s.state <> 'DEAD' END
         ORDER BY s.id FOR NO KEY UPDATE OF s
      )
      UPDATE millrace.subscriptions AS s
         SET unattended_since = CASE WHEN NOT due.attended THEN due.heard_at END,
             state            = CASE WHEN due.was_dead THEN 'ACTIVE' ELSE s.state END,
             state_reason     = CASE WHEN due.was_dead THEN 'RETURNED' ELSE s.state_reason END,
             state_changed_at = CASE WHEN due.was_dead THEN ${present} ELSE s.state_changed_at END
        FROM due WHERE s.id = due.id AND s.state <> 'CANCELLED'
      RETURNING s.id, due.was_dead`,
    values: [
      arrayLiteral(groups.map(({ groupId }) => groupId)),
      groups.map(({ came }) => came),
      groups.map(({ heardAgoMs }) => heardAgoMs),
      now(),
    ],
  });
  if (rows.length === 0) return [];
  const revived = rows.filter(([, wasDead]) => wasDead).map(([id]) => id);
  await claimsChanged(client, revived);
  return readSubscriptions(client, { ids: rows.map(([id]) => id) }, now);
}

/** Ends the lives that are due. @returns all of the named subscriptions as they are now. */
export async function markDead(client: Client, ids: readonly number[], now: Now): Promise<SubscriptionRow[]> {
  const named = arrayLiteral(ids);
  // Also those of lives that are not due: they may be by the time of the next statement.
  await lockTopicsOf(client, 'id = ANY ($1::integer[])', [named]);
  await client.query(
    `WITH due AS MATERIALIZED (
       SELECT id FROM millrace.subscriptions WHERE id = ANY ($1::integer[]) AND ${isDue('$2')} ORDER BY id FOR NO KEY UPDATE
     )
     UPDATE millrace.subscriptions AS s
        SET state = 'DEAD', state_reason = 'UNATTENDED', state_changed_at = ${nowOf('$2')}, claim_seq = claim_seq + 1
       FROM due WHERE s.id = due.id AND s.state = 'ACTIVE'`,
    [named, now()],
  );
  return readSubscriptions(client, { ids }, now);
}

function isDue(now: string): string {
  return `state = 'ACTIVE' AND ${nowOf(now)} - unattended_since >= dead_after_ms * interval '1 millisecond'`;
}
