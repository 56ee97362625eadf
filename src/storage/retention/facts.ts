import type { Client } from 'pg';
import { present } from '../../errors/present.ts';
import type { FoldedWatermark, StoredFacts } from '../../lifecycle/store.ts';
import type { OwedClaim, SealedSegment } from '../../retention/decision.ts';
import type { RetentionSettings } from '../../retention/settings.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { leafTable } from '../schema/leaf.ts';

const millisecondsOf = (time: string): string => `extract(epoch FROM ${time})::float8 * 1000`;

/** The settings of a topic, as columns. */
const settingColumns = `after_completion_ms::float8 AS "afterCompletionMs", excused_keep_ms::float8 AS "excusedKeepMs",
  max_age_ms::float8 AS "maxAgeMs", max_bytes::float8 AS "maxBytes", keep_unsubscribed_ms::float8 AS "keepUnsubscribedMs"`;

/**
 * Reads what retention decides by, as of one moment. The cursors of all subscriptions are read in
 * one pass, so the read of a topic with a million of them takes seconds. It runs outside of
 * writers, and holds no lock.
 */
export async function readFacts(client: Client, topicId: number, now: Now): Promise<StoredFacts | null> {
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    const facts = await readAll(client, topicId, now);
    await client.query('COMMIT');
    return facts;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

async function readAll(client: Client, topicId: number, now: Now): Promise<StoredFacts | null> {
  const topic = await readTopic(client, topicId, now);
  if (topic === null) return null;
  const { current, nowMs, settings } = topic;
  const sealed = await readSealed(client, topicId, current);
  const currentBytes = settings.maxBytes === null ? 0 : await bytesOf(client, topicId, current);
  const { needs, watermarks } = await readCursors(client, topicId, sealed[0]?.segment ?? current);
  const claims = await readClaims(client, topicId, (id) => needs.get(id) ?? current);
  return { topicId, nowMs, settings, current, currentBytes, sealed, claims, watermarks };
}

interface FoundTopic {
  readonly current: number;
  readonly nowMs: number;
  readonly settings: RetentionSettings;
}

async function readTopic(client: Client, topicId: number, now: Now): Promise<FoundTopic | null> {
  const { rows } = await client.query<{ current: number; now_ms: number } & RetentionSettings>(
    `SELECT segment AS current, ${millisecondsOf(nowOf('$2'))} AS now_ms, ${settingColumns}
       FROM millrace.topics WHERE id = $1`,
    [topicId, now()],
  );
  const row = rows[0];
  if (row === undefined) return null;
  const { current, now_ms: nowMs, ...settings } = row;
  return { current, nowMs, settings };
}

/**
 * The segments before the current one. The bases of the next one say when the last record was
 * appended.
 */
async function readSealed(client: Client, topicId: number, current: number): Promise<SealedSegment[]> {
  const { rows } = await client.query<{ segment: number; bytes: number; last_ms: number; completed_ms: number | null }>(
    `SELECT s.segment, coalesce(s.bytes, 0)::float8 AS bytes, ${millisecondsOf('s.completed_at')} AS completed_ms,
            ${millisecondsOf('coalesce(next.last_appended_at, s.sealed_at, s.created_at)')} AS last_ms
       FROM millrace.segments AS s
       LEFT JOIN (
         SELECT segment, max(last_appended_at) AS last_appended_at FROM millrace.segment_bases WHERE topic_id = $1 GROUP BY segment
       ) AS next ON next.segment = s.segment + 1
      WHERE s.topic_id = $1 AND s.segment < $2 ORDER BY s.segment`,
    [topicId, current],
  );
  return rows.map(({ segment, bytes, last_ms: lastAppendMs, completed_ms: completedAtMs }) => ({
    segment,
    bytes,
    lastAppendMs,
    completedAtMs,
  }));
}

async function bytesOf(client: Client, topicId: number, segment: number): Promise<number> {
  const { rows } = await client.query<{ bytes: number }>(
    'SELECT coalesce(pg_total_relation_size(to_regclass($1)), 0)::float8 AS bytes',
    [leafTable(topicId, segment)],
  );
  return rows[0]?.bytes ?? 0;
}

interface FoundCursors {
  /** The oldest segment that a subscription needs, if it is sealed. */
  readonly needs: ReadonlyMap<number, number>;
  readonly watermarks: FoldedWatermark[];
}

/**
 * Finds the segment of each cursor by the bases of its log. A cursor below the start of its log
 * counts as one at the start: it would otherwise need the first segment, owed or not. A cursor
 * without a row has done nothing.
 */
async function readCursors(client: Client, topicId: number, first: number): Promise<FoundCursors> {
  const { rows } = await client.query<
    [id: number | null, partition: number | null, needs: number | null, folded: string | null]
  >({
    rowMode: 'array',
    text: `WITH b AS MATERIALIZED (
      SELECT partition, lane, array_agg(base_offset ORDER BY segment) FILTER (WHERE segment > $2) AS bases,
             array_agg(segment - 1 ORDER BY segment) FILTER (WHERE segment > $2) AS segments,
             min(base_offset) FILTER (WHERE segment = $2) AS start
        FROM millrace.segment_bases WHERE topic_id = $1 AND segment >= $2 GROUP BY partition, lane
    ), c AS (
      SELECT u.id, u.state, p.partition, b.bases, b.segments,
             greatest(coalesce(c.committed_offset, 0), coalesce(b.start, 0)) AS committed
        FROM millrace.partitions AS p
        LEFT JOIN millrace.subscriptions AS u ON u.topic_id = p.topic_id AND u.state <> 'CANCELLED'
        LEFT JOIN b ON b.partition = p.partition AND b.lane = 0
        LEFT JOIN millrace.cursors AS c ON c.subscription_id = u.id AND c.partition = p.partition AND c.lane = 0
       WHERE p.topic_id = $1
    )
    SELECT id, partition, min(segments[width_bucket(committed, bases) + 1]) AS needs,
           min(committed) FILTER (WHERE state IN ('ACTIVE', 'PAUSED')) AS folded
      FROM c GROUP BY GROUPING SETS ((id), (partition)) ORDER BY partition`,
    values: [topicId, first],
  });
  const needs = new Map<number, number>();
  const watermarks: FoldedWatermark[] = [];
  for (const [id, partition, segment, folded] of rows) {
    if (partition !== null) watermarks.push({ partition, lane: 0, folded: folded === null ? null : Number(folded) });
    else if (id !== null && segment !== null) needs.set(id, segment);
  }
  return { needs, watermarks };
}

async function readClaims(client: Client, topicId: number, needs: (id: number) => number): Promise<OwedClaim[]> {
  const { rows } = await client.query<
    [id: number, group: string, state: OwedClaim['state'], claimSeq: number, changedMs: number]
  >({
    rowMode: 'array',
    text: `SELECT u.id, g.name, u.state, u.claim_seq, ${millisecondsOf('u.state_changed_at')}
             FROM millrace.subscriptions AS u JOIN millrace.consumer_groups AS g ON g.id = u.group_id
            WHERE u.topic_id = $1 AND u.state <> 'CANCELLED' ORDER BY u.id`,
    values: [topicId],
  });
  return rows.map(([subscriptionId, group, state, claimSeq, changedMs]) => {
    const diedAtMs = state === 'DEAD' ? changedMs : null;
    return { subscriptionId, group, state, claimSeq, diedAtMs, needs: needs(subscriptionId) };
  });
}

/** The values that a plan compares: what is owed may have changed if any of them has. */
export function claimsOf(facts: StoredFacts): string {
  return JSON.stringify(facts.claims.map(({ subscriptionId, state, claimSeq }) => [subscriptionId, state, claimSeq]));
}

/** The same of the database now. The caller has locked the topic, so no claim of it changes. */
export async function readClaimSeqs(client: Client, topicId: number): Promise<string> {
  const { rows } = await client.query<[id: number, state: string, claimSeq: number]>({
    rowMode: 'array',
    text: `SELECT id, state, claim_seq FROM millrace.subscriptions
            WHERE topic_id = $1 AND state <> 'CANCELLED' ORDER BY id`,
    values: [topicId],
  });
  return JSON.stringify(rows);
}

/** The settings of a locked topic; null if it is gone. */
export async function lockSettings(client: Client, topicId: number): Promise<RetentionSettings | null> {
  const { rows } = await client.query<RetentionSettings>(
    `SELECT ${settingColumns} FROM millrace.topics WHERE id = $1 FOR UPDATE`,
    [topicId],
  );
  return rows[0] ?? null;
}

export function isSame(one: RetentionSettings, other: RetentionSettings): boolean {
  const names = Object.keys(one) as (keyof RetentionSettings)[];
  return names.every((name) => one[name] === other[name]);
}

export const missingSegment = 'a plan names segments of its facts';

/** The number of the first segment that stays. */
export function firstKept({ sealed, current }: StoredFacts, dropped: number): number {
  return dropped === sealed.length ? current : present(sealed[dropped], missingSegment).segment;
}
