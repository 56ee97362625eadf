import { boundsPerRecord, type RecordSelection, type StoredBatch } from '../../src/log/batch.ts';
import type { AppendTransaction, BatchToAppend, IdempotencyKeyToStore } from '../../src/commit/store.ts';
import type { LogStore, TopicRow } from '../../src/log/store.ts';

/** Makes the topic's next segment and sends appends to it. @returns the current segment. */
export async function roll(storage: { readonly log: LogStore }, topicId: number, current: number): Promise<number> {
  await storage.log.makeSegment(topicId, current);
  return storage.log.rollSegment(topicId, current);
}

/** A record as its four stored parts; what is absent is empty. */
export interface Parts {
  readonly key?: Buffer;
  readonly headers?: Buffer;
  readonly value: Buffer;
  readonly rest?: Buffer;
}

const empty = Buffer.alloc(0);
const partsOf = ({ key = empty, headers = empty, value, rest = empty }: Parts) => [key, headers, value, rest];

/** Records as the scan of a request leaves them: slices of one buffer, other bytes between them. */
export function selection(records: readonly Parts[]): RecordSelection {
  const pieces: Buffer[] = [];
  const bounds = new Int32Array(records.length * boundsPerRecord);
  let at = 0;
  for (const [index, record] of records.entries()) {
    for (const [part, bytes] of partsOf(record).entries()) {
      if (bytes.length === 0) continue;
      pieces.push(Buffer.from([0xee]), bytes);
      bounds[index * boundsPerRecord + part * 2] = at + 1;
      at += 1 + bytes.length;
      bounds[index * boundsPerRecord + part * 2 + 1] = at;
    }
  }
  const set = { count: records.length, buffer: Buffer.concat(pieces), bounds };
  return { set, indexes: Int32Array.from(records.keys()) };
}

export function values(...texts: readonly string[]): Parts[] {
  return texts.map((text) => ({ value: Buffer.from(text) }));
}

export function batch(topic: TopicRow, partition: number, records: readonly Parts[]): BatchToAppend {
  const byteSize = records.reduce((sum, record) => sum + Buffer.concat(partsOf(record)).length, 0);
  const { id: topicId, segment } = topic;
  const partitionId = topic.partitions[partition]!.id;
  const recordCount = records.length;
  return { topicId, segment, partitionId, partition, lane: 0, recordCount, byteSize, records: [selection(records)] };
}

/** A transaction; batches are brought into the order of their locks. */
export function transaction(
  batches: readonly BatchToAppend[],
  keys: readonly IdempotencyKeyToStore[] = [],
): AppendTransaction {
  return { batches: [...batches].sort((a, b) => a.partitionId - b.partitionId), keys, acks: null };
}

/** A stored record with its offset, its parts as text of one character a byte. */
export interface Found {
  readonly offset: number;
  readonly appendTimeUs: number;
  readonly parts: readonly string[];
}

export function found(batches: readonly StoredBatch[]): Found[] {
  return batches.flatMap(({ baseOffset, appendTimeUs, records }) =>
    records.flatMap(({ set, indexes }) =>
      Array.from(indexes, (index) => ({
        offset: baseOffset + index,
        appendTimeUs,
        parts: [0, 1, 2, 3].map((part) => {
          const at = index * boundsPerRecord + part * 2;
          return set.buffer.toString('latin1', set.bounds[at], set.bounds[at + 1]);
        }),
      })),
    ),
  );
}

/** The parts of records as `found` shows them. */
export function shown(records: readonly Parts[]): string[][] {
  return records.map((record) => partsOf(record).map((bytes) => bytes.toString('latin1')));
}

/** All records of a log from an offset on, in as many reads as it takes. */
export async function readAll(
  storage: { readonly log: LogStore },
  { id: topicId }: TopicRow,
  partition: number,
  from = 0,
  bytesMax = 1_048_576,
): Promise<Found[]> {
  const all: Found[] = [];
  for (let offset = from; ;) {
    const batches = await storage.log.read({ topicId, partition, lane: 0, offset, bytesMax });
    const records = found(batches);
    if (records.length === 0) return all;
    all.push(...records);
    offset = records.at(-1)!.offset + 1;
  }
}
