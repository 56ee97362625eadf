import type { Client, QueryConfig, QueryResult } from 'pg';
import { Fault } from '../errors/fault.ts';
import {
  SegmentMoved,
  type AppendedBatch,
  type AppendTransaction,
  type BatchToAppend,
  type IdempotencyKeyToStore,
} from '../log/store.ts';
import { encodeByteaArray, encodePart, recordParts } from './bytea-array.ts';
import { faultOf, segmentMovedState, sqlState } from './faults.ts';
import { leafTable, ofLog } from './leaf.ts';
import type { Fence } from './writer.ts';

/**
 * Appends in one round trip: BEGIN, fence and locks, an INSERT for each batch, keys, and COMMIT are all sent before the first answer
 * is back. So a partition is locked for the time of the commit, not for four round trips.
 *
 * Each statement has its own answer. The transaction counts only if all of them are good and that of COMMIT says
 * COMMIT.
 */
export async function append(
  client: Client,
  fence: Fence,
  transaction: AppendTransaction,
  keyTable: number,
): Promise<AppendedBatch[]> {
  // One write to the socket instead of one for each statement.
  const { stream } = (client as unknown as { connection: { stream: { cork(): void; uncork(): void } } }).connection;
  stream.cork();
  const begun = settle(client.query('BEGIN'));
  const locked = settle(client.query(lockStatement(fence, transaction.batches)));
  const inserted = transaction.batches.map((batch) => settle(client.query<InsertedRow>(insertStatement(batch))));
  const keyed = keyStatements(transaction, keyTable).map((statement) => settle(client.query(statement)));
  const committed = settle(client.query('COMMIT'));
  stream.uncork();
  let failure: unknown = null;
  const all: readonly Promise<Answer<object>>[] = [begun, locked, ...inserted, ...keyed, committed];
  for (const answer of all) {
    const { error } = await answer;
    // The first error is the cause; those behind it only say that the transaction is aborted.
    failure ??= error;
  }
  if (failure !== null) throw classified(client, failure);
  const { result } = await committed;
  if (result?.command !== 'COMMIT') throw new Fault('DATABASE_UNAVAILABLE', 'the append was rolled back');
  const answers = await Promise.all(inserted);
  return answers.map((answer) => appended(answer.result));
}

interface InsertedRow {
  readonly base_offset: string;
  readonly append_time_us: string;
}

interface Answer<R extends object> {
  readonly result: QueryResult<R> | null;
  readonly error: unknown;
}

/** All answers come, whatever became of the others: none may be left without somebody who looks at it. */
function settle<R extends object>(query: Promise<QueryResult<R>>): Promise<Answer<R>> {
  return query.then(
    (result) => ({ result, error: null }),
    (error: unknown) => ({ result: null, error }),
  );
}

function appended(result: QueryResult<InsertedRow> | null): AppendedBatch {
  const row = result!.rows[0]!;
  return { baseOffset: Number(row.base_offset), appendTimeUs: Number(row.append_time_us) };
}

function classified(client: Client, failure: unknown): Error {
  if (sqlState(failure) === segmentMovedState) return new SegmentMoved((failure as Error).message);
  const fault = faultOf(failure, true);
  // A statement that the server refused leaves its transaction to the COMMIT behind it, which rolls back. Anything else
  // leaves the connection in a state that nobody knows.
  if (sqlState(failure) === null) void client.end().catch(() => undefined);
  return fault;
}

function lockStatement(fence: Fence, batches: readonly BatchToAppend[]): QueryConfig {
  const partitionIds: number[] = [];
  const segments = new Map<number, number>();
  for (const { partitionId, topicId, segment } of batches) {
    if (partitionIds.at(-1) !== partitionId) partitionIds.push(partitionId);
    segments.set(topicId, segment);
  }
  return {
    name: 'lock_logs',
    text: 'SELECT millrace.lock_logs($1, $2, $3, $4, $5, $6)',
    values: [fence.broker, fence.slot, fence.epoch(), partitionIds, [...segments.keys()], [...segments.values()]],
  };
}

/**
 * The base offset comes from the last batch, read by this statement: its snapshot is younger than the lock on the
 * partition, so it sees everything that was committed to it. The same holds for the append time, which never falls.
 */
function insertStatement(batch: BatchToAppend): QueryConfig {
  const { topicId, segment, records, recordCount } = batch;
  return {
    name: `append_${topicId}_${segment}`,
    text: `WITH last AS (
  SELECT base_offset + record_count AS next_offset, appended_at FROM ${leafTable(topicId, segment)}
   WHERE ${ofLog(topicId, segment, '$1', '$2')} ORDER BY base_offset DESC LIMIT 1
), before AS (
  SELECT base_offset AS next_offset, last_appended_at AS appended_at FROM millrace.segment_bases
   WHERE ${ofLog(topicId, segment, '$1', '$2')} AND NOT EXISTS (SELECT FROM last)
)
INSERT INTO ${leafTable(topicId, segment)}
  (topic_id, segment, partition, lane, base_offset, record_count, byte_size, appended_at, keys, headers, "values", rests)
SELECT ${topicId}, ${segment}, $1::integer, $2::integer,
       coalesce((SELECT next_offset FROM last), (SELECT next_offset FROM before), 0), $3::integer, $4::integer,
       greatest(clock_timestamp(), (SELECT appended_at FROM last), (SELECT appended_at FROM before)),
       $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[]
RETURNING base_offset, (extract(epoch FROM appended_at) * 1000000)::bigint AS append_time_us`,
    values: [
      batch.partition,
      batch.lane,
      recordCount,
      batch.byteSize,
      encodePart(records, recordParts.keys, recordCount),
      encodePart(records, recordParts.headers, recordCount),
      encodePart(records, recordParts.values, recordCount),
      encodePart(records, recordParts.rests, recordCount),
    ],
  };
}

/**
 * A key that is there already is one whose window is over: it is written anew. Keys follow all batches. A partition may have several of them in one transaction: the offset of a record is its index in
 * its batch, counted from where the last batch of the partition ends backwards.
 */
function keyStatements({ batches, keys }: AppendTransaction, keyTable: number): QueryConfig[] {
  if (keys.length === 0) return [];
  const byBatch = new Map<number, IdempotencyKeyToStore[]>();
  for (const key of keys) {
    const known = byBatch.get(key.batch);
    if (known === undefined) byBatch.set(key.batch, [key]);
    else known.push(key);
  }
  return Array.from(byBatch, ([index, own]) => keyStatement(batches, index, own, keyTable));
}

function keyStatement(
  batches: readonly BatchToAppend[],
  index: number,
  keys: readonly IdempotencyKeyToStore[],
  keyTable: number,
): QueryConfig {
  const batch = batches[index]!;
  const { topicId, segment, partition, lane } = batch;
  let fromEnd = 0;
  for (let at = index; at < batches.length; at++) {
    const other = batches[at]!;
    if (other.partitionId === batch.partitionId && other.lane === lane) fromEnd += other.recordCount;
  }
  return {
    name: `keys_${keyTable}_${topicId}_${segment}`,
    text: `INSERT INTO millrace.idempotency_${keyTable} (topic_id, key, partition, "offset", at)
SELECT ${topicId}, k.key, $1::integer, last.end_offset - $3::integer + k.index, last.appended_at
  FROM (SELECT base_offset + record_count AS end_offset, appended_at FROM ${leafTable(topicId, segment)}
         WHERE ${ofLog(topicId, segment, '$1', '$2')} ORDER BY base_offset DESC LIMIT 1) AS last,
       unnest($4::bytea[], $5::integer[]) AS k (key, index)
    ON CONFLICT (topic_id, key) DO UPDATE SET partition = excluded.partition, "offset" = excluded."offset", at = excluded.at`,
    values: [
      partition,
      lane,
      fromEnd,
      encodeByteaArray(keys.map(({ key }) => Buffer.from(key))),
      keys.map((key) => key.index),
    ],
  };
}
