import type { Client } from 'pg';
import { topicNotFound } from '../../errors/rejections/topics.ts';
import type { SegmentSize } from '../../log/store.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { leafTable, ofLog, topicTable } from '../schema/leaf.ts';

/** How long an attach waits for others that change the topic's table, or analyze it. */
const attachLockTimeout = '1s';

/** The segments of a topic and where each log stood when they began; kept in memory, read again when one is new. */
export interface SegmentBases {
  /** Ascending. */
  readonly segments: readonly number[];
  /** By segment, then `partition/lane`. What is not there began at 0. */
  readonly bases: ReadonlyMap<number, ReadonlyMap<string, number>>;
}

const logKey = (partition: number, lane: number): string => `${partition}/${lane}`;

/** Where a log stood when a segment began. */
export function segmentBase(known: SegmentBases, segment: number, partition: number, lane: number): number {
  return known.bases.get(segment)?.get(logKey(partition, lane)) ?? 0;
}

export async function readSegments(client: Client, topicId: number): Promise<SegmentBases> {
  const { rows: segments } = await client.query<{ segment: number }>({
    name: 'segments',
    text: `SELECT s.segment FROM millrace.segments AS s JOIN millrace.topics AS t ON t.id = s.topic_id
            WHERE s.topic_id = $1 AND s.segment <= t.segment ORDER BY s.segment`,
    values: [topicId],
  });
  const { rows } = await client.query<{ segment: number; partition: number; lane: number; base_offset: string }>({
    name: 'segment_bases',
    text: 'SELECT segment, partition, lane, base_offset FROM millrace.segment_bases WHERE topic_id = $1',
    values: [topicId],
  });
  const bases = new Map(segments.map(({ segment }) => [segment, new Map<string, number>()]));
  for (const row of rows) bases.get(row.segment)?.set(logKey(row.partition, row.lane), Number(row.base_offset));
  return { segments: segments.map(({ segment }) => segment), bases };
}

/** The segment that holds an offset of a log: the last one that began at or before it. */
export function segmentOf(known: SegmentBases, partition: number, lane: number, offset: number): number {
  let found = known.segments[0] ?? 1;
  for (const segment of known.segments) {
    if (segmentBase(known, segment, partition, lane) <= offset) found = segment;
  }
  return found;
}

/**
 * Makes the table of a segment and attaches it. PARTITION OF would stop appends for as long as somebody reads the parent.
 * The table is vacuumed once, when the segment is sealed: a vacuum in between writes more WAL and helps no reader.
 */
async function createSegment(client: Client, topicId: number, segment: number): Promise<void> {
  const leaf = leafTable(topicId, segment);
  await client.query(
    `CREATE TABLE ${leaf} (LIKE millrace.record_batches INCLUDING ALL)
     WITH (autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_insert_threshold = -1)`,
  );
  // With the constraint the attach need not look at the rows, however many there are.
  await client.query(`ALTER TABLE ${leaf} ADD CHECK (topic_id = ${topicId}), ADD CHECK (segment = ${segment})`);
  await client.query(`ALTER TABLE ${topicTable(topicId)} ATTACH PARTITION ${leaf} FOR VALUES IN (${segment})`);
}

/** Makes the first segment of a topic, which appends go to at once. */
export async function createFirstSegment(client: Client, topicId: number, now: Now): Promise<void> {
  await createSegment(client, topicId, 1);
  await noteSegment(client, topicId, 1, now);
}

/**
 * Makes the segment after `current`, if `current` is the current one and the next one is not there. Appends go on meanwhile.
 * @throws Fault if the attach waits for too long: an ANALYZE of the whole database locks the topic's table for its duration.
 */
export async function makeSegmentAhead(client: Client, topicId: number, current: number, now: Now): Promise<void> {
  const { rows } = await client.query(
    `SELECT FROM millrace.topics AS t WHERE t.id = $1 AND t.segment = $2
        AND NOT EXISTS (SELECT FROM millrace.segments WHERE topic_id = $1 AND segment = $2 + 1)`,
    [topicId, current],
  );
  if (rows.length === 0) return;
  // A takeover waits for this transaction, and must not wait for an ANALYZE.
  await client.query(`SET LOCAL lock_timeout = '${attachLockTimeout}'`);
  await createSegment(client, topicId, current + 1);
  // The foreign key locks the topic: last, so that nobody waits for the topic while this waits for the attach.
  await noteSegment(client, topicId, current + 1, now);
}

async function noteSegment(client: Client, topicId: number, segment: number, now: Now): Promise<void> {
  await client.query(`INSERT INTO millrace.segments (topic_id, segment, created_at) VALUES ($1, $2, ${nowOf('$3')})`, [
    topicId,
    segment,
    now(),
  ]);
}

/** The table that holds the segments of a topic. */
export async function createTopicTable(client: Client, topicId: number): Promise<void> {
  const table = topicTable(topicId);
  await client.query(`CREATE TABLE ${table} (LIKE millrace.record_batches INCLUDING ALL) PARTITION BY LIST (segment)`);
  await client.query(`ALTER TABLE millrace.record_batches ATTACH PARTITION ${table} FOR VALUES IN (${topicId})`);
}

/** SHARE: for reading. NO KEY UPDATE: a subscription that is being made for the topic goes on. UPDATE: it does not. */
type LockStrength = 'SHARE' | 'NO KEY UPDATE' | 'UPDATE';

/**
 * Locks a topic, so that it neither grows, moves to another segment nor goes.
 * @returns its current segment; null if the topic is gone.
 */
async function lockTopic(client: Client, topicId: number, strength: LockStrength): Promise<number | null> {
  const { rows } = await client.query<{ segment: number }>(
    // Before the partitions, as everywhere. An append locks partitions only and reads the topic under those locks: who
    // changes topics.segment holds all of them. A lock of the topic's row for SHARE by appends at once would make a
    // multixact of each, and a version of the row in the WAL.
    `SELECT segment FROM millrace.topics WHERE id = $1 FOR ${strength}`,
    [topicId],
  );
  return rows[0]?.segment ?? null;
}

/** Locks all partitions of a topic that is locked, so that no append is in flight. */
async function lockPartitions(client: Client, topicId: number): Promise<void> {
  await client.query('SELECT 1 FROM millrace.partitions WHERE topic_id = $1 ORDER BY id FOR UPDATE', [topicId]);
}

/** Locks a topic and all its partitions. @returns its current segment; null if the topic is gone. */
export async function lockTopicLogs(client: Client, topicId: number, strength: LockStrength): Promise<number | null> {
  const segment = await lockTopic(client, topicId, strength);
  if (segment !== null) await lockPartitions(client, topicId);
  return segment;
}

/** Where the logs of a topic begin and end. To be called under their locks, in a statement after them. */
export function endsQuery(topicId: number, segment: number): string {
  return `SELECT p.partition, 0 AS lane, p.log_start_offset AS start_offset,
       coalesce(last.end_offset, b.base_offset, 0) AS end_offset, coalesce(last.appended_at, b.last_appended_at) AS appended_at
  FROM millrace.partitions AS p
  LEFT JOIN millrace.segment_bases AS b
    ON b.topic_id = p.topic_id AND b.segment = ${segment} AND b.partition = p.partition AND b.lane = 0
  LEFT JOIN LATERAL (
    SELECT base_offset + record_count AS end_offset, appended_at FROM ${leafTable(topicId, segment)}
     WHERE ${ofLog(topicId, segment, 'p.partition', '0')} ORDER BY base_offset DESC LIMIT 1
  ) AS last ON true
 WHERE p.topic_id = ${topicId} ORDER BY p.partition`;
}

/**
 * Sends appends to the next segment, if `current` is the current one and the next one is made. While partitions are locked
 * nothing here waits for a lock of a table. @returns the current segment.
 */
export async function rollSegment(client: Client, topicId: number, current: number, now: Now): Promise<number> {
  const segment = await lockTopic(client, topicId, 'NO KEY UPDATE');
  if (segment === null) throw topicNotFound({ deletedId: topicId });
  if (segment !== current || !(await isMade(client, topicId, current + 1))) return segment;
  const next = segment + 1;
  await lockPartitions(client, topicId);
  await client.query(
    `INSERT INTO millrace.segment_bases (topic_id, segment, partition, lane, base_offset, last_appended_at)
     SELECT ${topicId}, ${next}, partition, lane, end_offset, appended_at FROM (${endsQuery(topicId, segment)}) AS ends`,
  );
  await client.query(
    `WITH turned AS (
       UPDATE millrace.segments
          SET sealed_at = CASE segment WHEN $2 THEN ${nowOf('$4')} ELSE sealed_at END,
              created_at = CASE segment WHEN $3 THEN ${nowOf('$4')} ELSE created_at END
        WHERE topic_id = $1 AND segment IN ($2, $3)
     )
     UPDATE millrace.topics SET segment = $3 WHERE id = $1`,
    [topicId, segment, next, now()],
  );
  return next;
}

async function isMade(client: Client, topicId: number, segment: number): Promise<boolean> {
  const { rows } = await client.query('SELECT FROM millrace.segments WHERE topic_id = $1 AND segment = $2', [
    topicId,
    segment,
  ]);
  return rows.length > 0;
}

/** Bytes and age of a segment that appends go to, and whether the next one is made. */
export async function segmentSize(client: Client, topicId: number, segment: number, now: Now): Promise<SegmentSize> {
  const { rows } = await client.query<{ bytes: string; age_ms: number; next_is_made: boolean }>(
    `SELECT coalesce(pg_total_relation_size(to_regclass($3)), 0) AS bytes,
            (extract(epoch FROM ${nowOf('$4')} - created_at) * 1000)::float8 AS age_ms,
            EXISTS (SELECT FROM millrace.segments WHERE topic_id = $1 AND segment = $2 + 1) AS next_is_made
       FROM millrace.segments WHERE topic_id = $1 AND segment = $2`,
    [topicId, segment, leafTable(topicId, segment), now()],
  );
  const row = rows[0];
  return { bytes: Number(row?.bytes ?? 0), ageMs: row?.age_ms ?? 0, nextIsMade: row?.next_is_made ?? false };
}
