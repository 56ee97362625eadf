import type { Client } from 'pg';
import {
  SegmentMoved,
  type AppendedBatch,
  type AppendTransaction,
  type BatchToAppend,
  type IdempotencyKeyToStore,
} from '../../commit/store.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { byteaArray, recordPart, recordParts } from '../pg/bytea-array.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { signFence, type Fence } from '../sessions/fence.ts';
import { faultOf, segmentMovedState, sqlState, undefinedTableState } from '../pg/faults.ts';
import { ackStatement } from './ack-log.ts';
import { leafTable, ofLog } from '../schema/leaf.ts';
import { inOneRoundTrip, type Statement, type TextRow } from '../pg/one-round-trip.ts';
import { present } from '../../errors/present.ts';

// The order of locks, here and everywhere else in src/storage, is: fence, topics, groups, cursors
// by id, partitions by id, and only then inserts. Transactions that lock in one order never wait
// for each other in a circle. A transaction that waits for a lock has inserted nothing yet, so it
// blocks no other insert. Acks lock no cursor, because their row is an insert.

/**
 * Commits in one round trip: the fence, the locks, an INSERT for each batch, the keys, and the row
 * of the acks. With several round trips, the partitions would stay locked for all of them.
 */
export async function append(
  client: Client,
  fence: Fence,
  transaction: AppendTransaction,
  keyTable: number,
  now: Now,
): Promise<AppendedBatch[]> {
  await signFence(client, fence);
  const { batches, acks } = transaction;
  const at = now();
  const locks = batches.length === 0 ? [] : [lockStatement(fence, batches)];
  const statements = [
    ...locks,
    ...batches.map((batch) => insertStatement(batch, at)),
    ...keyStatements(transaction, keyTable),
  ];
  if (acks !== null) statements.push(ackStatement(fence, acks));
  try {
    const rows = await inOneRoundTrip(client, statements);
    return batches.map((_, index) =>
      appended(present(rows[index + locks.length]?.[0], 'the INSERT of a batch returns its place')),
    );
  } catch (error) {
    throw classified(client, error);
  }
}

function appended([baseOffset, appendTimeUs]: TextRow): AppendedBatch {
  return { baseOffset: Number(baseOffset), appendTimeUs: Number(appendTimeUs) };
}

function classified(client: Client, failure: unknown): Error {
  const state = sqlState(failure);
  // A deleted topic has no table, and the server parses the INSERT before it takes the locks.
  if (state === segmentMovedState || state === undefinedTableState) return new SegmentMoved((failure as Error).message);
  const fault = faultOf(failure, true);
  // An error of the server is rolled back. Any other error leaves the state of the connection
  // unknown.
  if (state === null) void client.end().catch(() => undefined);
  return fault;
}

function lockStatement(fence: Fence, batches: readonly BatchToAppend[]): Statement {
  const partitionIds: number[] = [];
  const segments = new Map<number, number>();
  for (const { partitionId, topicId, segment } of batches) {
    if (partitionIds.at(-1) !== partitionId) partitionIds.push(partitionId);
    segments.set(topicId, segment);
  }
  return {
    name: 'lock_logs',
    text: 'SELECT millrace.lock_logs($1, $2, $3, $4, $5, $6)',
    parameters: [
      fence.broker,
      fence.slot,
      fence.epoch(),
      arrayLiteral(partitionIds),
      arrayLiteral([...segments.keys()]),
      arrayLiteral([...segments.values()]),
    ],
  };
}

/**
 * The statement reads the last batch for the base offset and for the append time, which never
 * falls. Its snapshot is younger than the lock on the partition, so it sees every committed batch.
 */
function insertStatement(batch: BatchToAppend, now: string | null): Statement {
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
       greatest(${nowOf('$9')}, (SELECT appended_at FROM last), (SELECT appended_at FROM before)),
       $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[]
RETURNING base_offset, (extract(epoch FROM appended_at) * 1000000)::bigint AS append_time_us`,
    parameters: [
      batch.partition,
      batch.lane,
      recordCount,
      batch.byteSize,
      recordPart(records, recordParts.keys, recordCount),
      recordPart(records, recordParts.headers, recordCount),
      recordPart(records, recordParts.values, recordCount),
      recordPart(records, recordParts.rests, recordCount),
      now,
    ],
  };
}

/**
 * Keys follow all batches. A partition may have several batches in one transaction, so each offset
 * is counted back from the end of its last batch. An existing key is overwritten, because its
 * window is over.
 */
function keyStatements({ batches, keys }: AppendTransaction, keyTable: number): Statement[] {
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
): Statement {
  const batch = present(batches[index], 'a key names a batch of its transaction');
  const { topicId, segment, partition, lane } = batch;
  let fromEnd = 0;
  for (const other of batches.slice(index)) {
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
    parameters: [
      partition,
      lane,
      fromEnd,
      byteaArray(keys.map(({ key }) => Buffer.from(key))),
      arrayLiteral(keys.map((key) => key.index)),
    ],
  };
}
