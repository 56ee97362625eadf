import type { Client } from 'pg';
import { present } from '../../errors/present.ts';
import type { DropPlan, Planned, StoredFacts } from '../../lifecycle/store.ts';
import { gapReasonOf, type SegmentToDrop } from '../../retention/decision.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { rangesOf } from '../log/ranges.ts';
import { readStarts } from '../log/segments.ts';
import { claimsOf, firstKept, isSame, lockSettings, missingSegment, readClaimSeqs } from './facts.ts';

/**
 * A roll queues behind the lock that this transaction waits for, and publishes behind the roll. So
 * it waits only shortly.
 */
const topicLockTimeout = '200ms';
/** So many bases of logs are removed together, at least those of one segment. */
const basesMax = 20_000;

/**
 * Removes segments from a topic and writes the audit. It locks the topic, so that neither claims
 * nor segments change, and compares both with the facts. It reads and writes no cursor: a million
 * of them would keep a roll waiting, and publishes behind it.
 */
export async function writePlan(client: Client, plan: DropPlan, now: Now): Promise<Planned | 'CHANGED'> {
  const { facts, complete } = plan;
  await client.query(`SET LOCAL lock_timeout = '${topicLockTimeout}'`);
  const settings = await lockSettings(client, facts.topicId);
  if (settings === null || !isSame(settings, facts.settings)) return 'CHANGED';
  if ((await readClaimSeqs(client, facts.topicId)) !== claimsOf(facts)) return 'CHANGED';
  if (!(await hasSegments(client, facts, firstKept(facts, plan.drop.length)))) return 'CHANGED';
  const drop = await fitting(client, facts.topicId, plan.drop);
  if (drop.length > 0) await removeSegments(client, facts.topicId, drop, now);
  await markComplete(client, facts.topicId, complete, now);
  const bytes = new Map(facts.sealed.map((sealed) => [sealed.segment, sealed.bytes]));
  return {
    dropped: drop.map((one) => ({ ...one, bytes: present(bytes.get(one.segment), missingSegment) })),
    starts: await readStarts(client, facts.topicId),
  };
}

/** Whether the segments up to the first that stays are those of the facts. */
async function hasSegments(client: Client, facts: StoredFacts, until: number): Promise<boolean> {
  const { rows } = await client.query<{ segments: number[] | null }>(
    'SELECT array_agg(segment ORDER BY segment) AS segments FROM millrace.segments WHERE topic_id = $1 AND segment <= $2',
    [facts.topicId, until],
  );
  const expected = [...facts.sealed.map(({ segment }) => segment), facts.current].filter((one) => one <= until);
  return JSON.stringify(rows[0]?.segments ?? []) === JSON.stringify(expected);
}

/** The oldest segments whose bases fit into one transaction, at least one. */
async function fitting(
  client: Client,
  topicId: number,
  drop: readonly SegmentToDrop[],
): Promise<readonly SegmentToDrop[]> {
  const last = drop.at(-1);
  if (last === undefined || drop.length === 1) return drop;
  const { rows } = await client.query<{ segment: number; count: number }>(
    `SELECT segment, count(*)::integer AS count FROM millrace.segment_bases
      WHERE topic_id = $1 AND segment <= $2 GROUP BY segment`,
    [topicId, last.segment],
  );
  const counts = new Map(rows.map(({ segment, count }) => [segment, count]));
  let bases = 0;
  const over = drop.findIndex(({ segment }) => (bases += counts.get(segment) ?? 0) > basesMax);
  return over < 0 ? drop : drop.slice(0, Math.max(1, over));
}

async function removeSegments(
  client: Client,
  topicId: number,
  drop: readonly SegmentToDrop[],
  now: Now,
): Promise<void> {
  const last = present(drop.at(-1), 'there is something to drop').segment;
  await client.query('UPDATE millrace.topics SET gap_reason = $2 WHERE id = $1', [topicId, gapReasonOf(drop)]);
  await client.query(
    `INSERT INTO millrace.segment_drops (topic_id, segment, topic_name, reason, planned_at, bytes,
                                         partitions, lanes, first_offsets, last_offsets)
     SELECT $1, d.segment, t.name, d.reason, ${nowOf('$4')}, coalesce(s.bytes, 0), coalesce(r.partitions, '{}'),
            coalesce(r.lanes, '{}'), coalesce(r.first_offsets, '{}'), coalesce(r.last_offsets, '{}')
       FROM unnest($2::integer[], $3::text[]) AS d (segment, reason)
       JOIN millrace.topics AS t ON t.id = $1
       JOIN millrace.segments AS s ON s.topic_id = $1 AND s.segment = d.segment
       LEFT JOIN (${rangesOf(
         'SELECT segment, partition, lane, base_offset FROM millrace.segment_bases WHERE topic_id = $1 AND segment <= $5',
       )}) AS r ON r.segment = d.segment`,
    [topicId, arrayLiteral(drop.map(({ segment }) => segment)), drop.map(({ reason }) => reason), now(), last + 1],
  );
  await client.query('DELETE FROM millrace.segment_bases WHERE topic_id = $1 AND segment <= $2', [topicId, last]);
  await client.query('DELETE FROM millrace.segments WHERE topic_id = $1 AND segment <= $2', [topicId, last]);
}

async function markComplete(client: Client, topicId: number, complete: readonly number[], now: Now): Promise<void> {
  if (complete.length === 0) return;
  await client.query(
    `UPDATE millrace.segments SET completed_at = ${nowOf('$3')}
      WHERE topic_id = $1 AND segment = ANY ($2::integer[]) AND completed_at IS NULL`,
    [topicId, arrayLiteral(complete), now()],
  );
}

/** The starts of a topic's logs, after a transaction that may still lock the topic has ended. */
export async function readDecidedStarts(client: Client, topicId: number) {
  const { rowCount } = await client.query('SELECT 1 FROM millrace.topics WHERE id = $1 FOR KEY SHARE', [topicId]);
  return rowCount === 0 ? [] : readStarts(client, topicId);
}
