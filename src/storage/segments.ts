import type { Client } from 'pg';
import { Rejection } from '../errors/rejection.ts';
import { leafTable, ofLog, topicTable } from './leaf.ts';

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
    text: 'SELECT segment FROM millrace.segments WHERE topic_id = $1 ORDER BY segment',
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
 * Makes the table of a segment. It is attached when it is complete: making it as a partition at once would stop
 * appends for as long as anybody reads the parent. What is appended is vacuumed once, when the segment is sealed: doing it in
 * between as well writes more WAL and changes nothing for readers.
 */
export async function createSegment(client: Client, topicId: number, segment: number): Promise<void> {
  const leaf = leafTable(topicId, segment);
  await client.query(
    `CREATE TABLE ${leaf} (LIKE millrace.record_batches INCLUDING ALL)
     WITH (autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_insert_threshold = -1)`,
  );
  // With the constraint the attach need not look at the rows, however many there are.
  await client.query(`ALTER TABLE ${leaf} ADD CHECK (topic_id = ${topicId}), ADD CHECK (segment = ${segment})`);
  await client.query(`ALTER TABLE ${topicTable(topicId)} ATTACH PARTITION ${leaf} FOR VALUES IN (${segment})`);
  await client.query('INSERT INTO millrace.segments (topic_id, segment) VALUES ($1, $2)', [topicId, segment]);
}

/** The table that holds the segments of a topic. */
export async function createTopicTable(client: Client, topicId: number): Promise<void> {
  const table = topicTable(topicId);
  await client.query(`CREATE TABLE ${table} (LIKE millrace.record_batches INCLUDING ALL) PARTITION BY LIST (segment)`);
  await client.query(`ALTER TABLE millrace.record_batches ATTACH PARTITION ${table} FOR VALUES IN (${topicId})`);
}

/** Locks all partitions of a topic, so that no append is in flight. @returns its current segment; null if the topic is gone. */
export async function lockTopicLogs(client: Client, topicId: number): Promise<number | null> {
  await client.query('SELECT 1 FROM millrace.partitions WHERE topic_id = $1 ORDER BY id FOR UPDATE', [topicId]);
  const { rows } = await client.query<{ segment: number }>('SELECT segment FROM millrace.topics WHERE id = $1', [
    topicId,
  ]);
  return rows[0]?.segment ?? null;
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

/** Ends the current segment and begins the next, if `current` is the current one. @returns the current one. */
export async function rollSegment(client: Client, topicId: number, current: number): Promise<number> {
  const segment = await lockTopicLogs(client, topicId);
  if (segment === null) throw new Rejection('TOPIC_NOT_FOUND', `topic ${topicId} has been deleted`);
  if (segment !== current) return segment;
  const next = segment + 1;
  await createSegment(client, topicId, next);
  await client.query(
    `INSERT INTO millrace.segment_bases (topic_id, segment, partition, lane, base_offset, last_appended_at)
     SELECT ${topicId}, ${next}, partition, lane, end_offset, appended_at FROM (${endsQuery(topicId, segment)}) AS ends`,
  );
  await client.query(
    'UPDATE millrace.segments SET sealed_at = clock_timestamp() WHERE topic_id = $1 AND segment = $2',
    [topicId, segment],
  );
  await client.query('UPDATE millrace.topics SET segment = $2 WHERE id = $1', [topicId, next]);
  return next;
}
