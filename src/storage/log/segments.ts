import type { Client } from 'pg';
import { present } from '../../errors/present.ts';
import { topicNotFound } from '../../errors/rejections/topics.ts';
import type { LogEnd, SegmentSize, StoredStart } from '../../log/store.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { leafTable, ofLog, topicTable } from '../schema/leaf.ts';

/** How long an attach waits for a session that alters or analyzes the topic's table. */
const attachLockTimeout = '1s';

/**
 * The segments of a topic, and the end of each log when they began. They are read again after a
 * roll.
 */
export interface SegmentBases {
  /** Ascending. */
  readonly segments: readonly number[];
  /** By segment, then `partition/lane`. A log that is missing began at 0. */
  readonly bases: ReadonlyMap<number, ReadonlyMap<string, number>>;
}

const logKey = (partition: number, lane: number): string => `${partition}/${lane}`;

/** The first offset of a log in a segment. */
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
 * Makes the table of a segment and attaches it. PARTITION OF would block appends while a session
 * reads the parent. The table is vacuumed only when its segment is sealed, because an earlier
 * vacuum writes more WAL and helps no reader.
 */
async function createSegment(client: Client, topicId: number, segment: number): Promise<void> {
  const leaf = leafTable(topicId, segment);
  await client.query(
    `CREATE TABLE ${leaf} (LIKE millrace.record_batches INCLUDING ALL)
     WITH (autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_insert_threshold = -1)`,
  );
  // With these constraints, the attach does not scan the rows.
  await client.query(`ALTER TABLE ${leaf} ADD CHECK (topic_id = ${topicId}), ADD CHECK (segment = ${segment})`);
  await client.query(`ALTER TABLE ${topicTable(topicId)} ATTACH PARTITION ${leaf} FOR VALUES IN (${segment})`);
}

/** Makes the first segment of a topic. */
export async function createFirstSegment(client: Client, topicId: number, now: Now): Promise<void> {
  await createSegment(client, topicId, 1);
  await noteSegment(client, topicId, 1, now);
}

/**
 * Makes the segment after `current`, unless `current` is out of date or the next one exists.
 * Appends go on meanwhile.
 *
 * @throws Fault if the attach waits too long, because an ANALYZE of the database locks the topic's
 * table.
 */
export async function makeSegmentAhead(client: Client, topicId: number, current: number, now: Now): Promise<void> {
  const { rows } = await client.query(
    `SELECT FROM millrace.topics AS t WHERE t.id = $1 AND t.segment = $2
        AND NOT EXISTS (SELECT FROM millrace.segments WHERE topic_id = $1 AND segment = $2 + 1)`,
    [topicId, current],
  );
  if (rows.length === 0) return;
  // The limit is short, because a takeover waits for this transaction and must not wait for an
  // ANALYZE.
  await client.query(`SET LOCAL lock_timeout = '${attachLockTimeout}'`);
  await createSegment(client, topicId, current + 1);
  // The foreign key locks the topic. So this comes after the attach, which may wait.
  await noteSegment(client, topicId, current + 1, now);
}

async function noteSegment(client: Client, topicId: number, segment: number, now: Now): Promise<void> {
  await client.query(`INSERT INTO millrace.segments (topic_id, segment, created_at) VALUES ($1, $2, ${nowOf('$3')})`, [
    topicId,
    segment,
    now(),
  ]);
}

/** Makes the table of all segments of a topic. */
export async function createTopicTable(client: Client, topicId: number): Promise<void> {
  const table = topicTable(topicId);
  await client.query(`CREATE TABLE ${table} (LIKE millrace.record_batches INCLUDING ALL) PARTITION BY LIST (segment)`);
  await client.query(`ALTER TABLE millrace.record_batches ATTACH PARTITION ${table} FOR VALUES IN (${topicId})`);
}

/**
 * SHARE is for reads. NO KEY UPDATE lets a transaction that creates a subscription of the topic go
 * on, and UPDATE blocks it.
 */
type LockStrength = 'SHARE' | 'NO KEY UPDATE' | 'UPDATE';

/**
 * Locks a topic, so that it neither grows nor rolls to another segment, and is not deleted.
 *
 * @returns its current segment; null if the topic is deleted.
 */
export async function lockTopic(client: Client, topicId: number, strength: LockStrength): Promise<number | null> {
  const { rows } = await client.query<{ segment: number }>(
    // The topic is locked before its partitions, as in the order of locks in append.ts. An append
    // locks only partitions, and reads the topic under those locks, because every change of
    // topics.segment locks all partitions. With FOR SHARE on the topic's row, concurrent appends
    // would each write a multixact and a row version to the WAL.
    `SELECT segment FROM millrace.topics WHERE id = $1 FOR ${strength}`,
    [topicId],
  );
  return rows[0]?.segment ?? null;
}

/** Locks all partitions of a locked topic, so that no append is in flight. */
export async function lockPartitions(client: Client, topicId: number): Promise<void> {
  await client.query('SELECT 1 FROM millrace.partitions WHERE topic_id = $1 ORDER BY id FOR UPDATE', [topicId]);
}

/**
 * Locks a topic and all its partitions.
 *
 * @returns its current segment; null if the topic is deleted.
 */
export async function lockTopicLogs(client: Client, topicId: number, strength: LockStrength): Promise<number | null> {
  const segment = await lockTopic(client, topicId, strength);
  if (segment !== null) await lockPartitions(client, topicId);
  return segment;
}

/** Joins the bases of the first segment that is still there. */
const firstBases = `LEFT JOIN millrace.segment_bases AS first_base
    ON first_base.topic_id = p.topic_id AND first_base.partition = p.partition AND first_base.lane = 0
   AND first_base.segment = (SELECT min(segment) FROM millrace.segments WHERE topic_id = p.topic_id)`;

/** The start of each log of topic $1. A log that began in its first segment has no base there. */
const startsQuery = `SELECT p.partition, 0 AS lane, coalesce(first_base.base_offset, 0) AS start_offset
  FROM millrace.partitions AS p ${firstBases} WHERE p.topic_id = $1 ORDER BY p.partition`;

/**
 * The starts of the logs of topics $1, and where the current segments $2 of these began. Joins of
 * the table of each topic with these would be planned for each, and take twice as long at a load.
 */
const basesQuery = `SELECT p.topic_id, p.partition, 0 AS lane, coalesce(first_base.base_offset, 0) AS start_offset,
       coalesce(b.base_offset, 0) AS segment_base_offset
  FROM unnest($1::integer[], $2::integer[]) AS t (id, segment)
  JOIN millrace.partitions AS p ON p.topic_id = t.id ${firstBases}
  LEFT JOIN millrace.segment_bases AS b
    ON b.topic_id = p.topic_id AND b.segment = t.segment AND b.partition = p.partition AND b.lane = 0
 ORDER BY p.topic_id, p.partition`;

/** The end of the last batch of the log `p.partition`, if its segment has one. */
const lastBatch = (topicId: number, segment: number): string =>
  `SELECT base_offset + record_count AS end_offset, appended_at FROM ${leafTable(topicId, segment)}
    WHERE ${ofLog(topicId, segment, 'p.partition', '0')} ORDER BY base_offset DESC LIMIT 1`;

/**
 * The end of each log of a topic, and the time of its last append. It needs their locks, from an
 * earlier statement.
 */
export function endsQuery(topicId: number, segment: number): string {
  return `SELECT p.partition, 0 AS lane, coalesce(last.end_offset, b.base_offset, 0) AS end_offset,
       coalesce(last.appended_at, b.last_appended_at) AS appended_at
  FROM millrace.partitions AS p
  LEFT JOIN millrace.segment_bases AS b
    ON b.topic_id = p.topic_id AND b.segment = ${segment} AND b.partition = p.partition AND b.lane = 0
  LEFT JOIN LATERAL (${lastBatch(topicId, segment)}) AS last ON true
 WHERE p.topic_id = ${topicId} ORDER BY p.partition`;
}

interface StartFields {
  readonly partition: number;
  readonly lane: number;
  readonly start_offset: string;
}

interface BaseFields extends StartFields {
  readonly topic_id: number;
  readonly segment_base_offset: string;
}

const startOf = ({ partition, lane, start_offset }: StartFields): StoredStart => ({
  partition,
  lane,
  startOffset: Number(start_offset),
});

/** Reads the starts of a topic's logs. */
export async function readStarts(client: Client, topicId: number): Promise<StoredStart[]> {
  const { rows } = await client.query<StartFields>(startsQuery, [topicId]);
  return rows.map(startOf);
}

interface CurrentSegment {
  readonly id: number;
  readonly segment: number;
}

/**
 * Reads the start and the end of each log of topics. It needs locks of the logs, from an earlier
 * statement, or that nobody appends.
 */
export async function readEnds(client: Client, topics: readonly CurrentSegment[]): Promise<Map<number, LogEnd[]>> {
  const found = new Map<number, LogEnd[]>(topics.map(({ id }) => [id, []]));
  if (topics.length === 0) return found;
  const { rows } = await client.query<BaseFields>(basesQuery, [
    arrayLiteral(topics.map(({ id }) => id)),
    arrayLiteral(topics.map(({ segment }) => segment)),
  ]);
  for (const row of rows) {
    const base = Number(row.segment_base_offset);
    found.get(row.topic_id)?.push({ ...startOf(row), endOffset: base, segmentBaseOffset: base });
  }
  const lastOf = ({ id, segment }: CurrentSegment): string => {
    const partitions = `generate_series(0, ${(found.get(id)?.length ?? 0) - 1})`;
    return `SELECT ${id} AS topic_id, p.partition, last.end_offset
      FROM ${partitions} AS p (partition) CROSS JOIN LATERAL (${lastBatch(id, segment)}) AS last`;
  };
  const { rows: last } = await client.query<{ topic_id: number; partition: number; end_offset: string }>(
    topics.map(lastOf).join(' UNION ALL '),
  );
  for (const { topic_id: topicId, partition, end_offset: endOffset } of last) {
    const ends = present(found.get(topicId), 'the database answers for the topics of the query');
    ends[partition] = { ...present(ends[partition], 'each number is that of a log'), endOffset: Number(endOffset) };
  }
  return found;
}

/**
 * Moves appends to the next segment, unless `current` is out of date or the next one does not
 * exist. While it locks the partitions, it waits for no lock of a table.
 *
 * @returns the current segment.
 */
export async function rollSegment(
  client: Client,
  topicId: number,
  current: number,
  bytes: number | undefined,
  now: Now,
): Promise<number> {
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
              created_at = CASE segment WHEN $3 THEN ${nowOf('$4')} ELSE created_at END,
              bytes = CASE segment WHEN $2 THEN coalesce($5::bigint, bytes) ELSE bytes END
        WHERE topic_id = $1 AND segment IN ($2, $3)
     )
     UPDATE millrace.topics SET segment = $3 WHERE id = $1`,
    [topicId, segment, next, now(), bytes ?? null],
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

/**
 * The bytes and the age of the current segment, and whether the next one exists. A table that once
 * had a page counts as one with data, because an append that failed is rare.
 */
export async function segmentSize(client: Client, topicId: number, segment: number, now: Now): Promise<SegmentSize> {
  const { rows } = await client.query<{ bytes: string; age_ms: number; next_is_made: boolean; has_data: boolean }>(
    `SELECT coalesce(pg_total_relation_size(to_regclass($3)), 0) AS bytes,
            (extract(epoch FROM ${nowOf('$4')} - created_at) * 1000)::float8 AS age_ms,
            EXISTS (SELECT FROM millrace.segments WHERE topic_id = $1 AND segment = $2 + 1) AS next_is_made,
            coalesce(pg_relation_size(to_regclass($3)), 0) > 0 AS has_data
       FROM millrace.segments WHERE topic_id = $1 AND segment = $2`,
    [topicId, segment, leafTable(topicId, segment), now()],
  );
  const row = rows[0];
  return {
    bytes: Number(row?.bytes ?? 0),
    ageMs: row?.age_ms ?? 0,
    nextIsMade: row?.next_is_made ?? false,
    hasData: row?.has_data ?? false,
  };
}
