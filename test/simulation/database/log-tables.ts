import assert from 'node:assert/strict';
import { topicNotFound } from '../../../src/errors/rejections/topics.ts';
import { allOf, boundsPerRecord, type RecordSelection, type StoredBatch } from '../../../src/log/batch.ts';
import {
  SegmentMoved,
  type AppendedBatch,
  type AppendTransaction,
  type BatchToAppend,
} from '../../../src/commit/store.ts';
import type { IdempotencyHit } from '../../../src/log/known-keys.ts';
import type { LogEnd, NewTopic, ReadRequest, RecordPlace, SegmentSize, TopicRow } from '../../../src/log/store.ts';
import type { World } from '../world.ts';

interface StoredTopic {
  row: TopicRow;
  nextIsMade: boolean;
  segmentBytes: number;
  segmentSinceMs: number;
  readonly partitions: StoredPartition[];
  readonly keys: Map<string, IdempotencyHit & { readonly atMs: number }>;
}

interface StoredPartition {
  readonly batches: (StoredBatch & { readonly byteSize: number })[];
  /** The values of the records by offset. A value identifies its record. */
  readonly values: string[];
}

/** The topics, batches and idempotency keys of the database. */
export class LogTables {
  /** Called for each written record. */
  onRecord: (topicId: number, partition: number, offset: number, value: string) => void = () => undefined;
  readonly topics = new Map<number, StoredTopic>();
  /** How many of the segments look full. */
  fullRate = 0;
  /** A read returns at least one batch, and no further one beyond this. */
  readBytesMax = Infinity;
  readonly #world: World;
  #partitionIds = 0;
  #topicIds = 0;

  constructor(world: World) {
    this.#world = world;
  }

  rows(): TopicRow[] {
    return Array.from(this.topics.values(), ({ row }) => row);
  }

  /** -1 if there is no such topic. */
  idOf(name: string): number {
    for (const { row } of this.topics.values()) if (row.name === name) return row.id;
    return -1;
  }

  create({ name, partitions, idempotencyWindowMs, description }: NewTopic): TopicRow | null {
    if (this.rows().some((row) => row.name === name)) return null;
    const row: TopicRow = {
      id: ++this.#topicIds,
      name,
      semantics: 'PUB_SUB',
      idempotencyWindowMs,
      description,
      createdAtMs: Math.floor(this.#world.nowMs),
      partitions: Array.from({ length: partitions }, (_, partition) => ({ id: ++this.#partitionIds, partition })),
      segment: 1,
    };
    const stored = row.partitions.map(() => ({ batches: [], values: [] }));
    const segment = { nextIsMade: false, segmentBytes: 0, segmentSinceMs: this.#world.nowMs };
    this.topics.set(row.id, { row, ...segment, partitions: stored, keys: new Map() });
    return row;
  }

  update(topicId: number, change: Partial<TopicRow>): TopicRow | null {
    const topic = this.topics.get(topicId);
    if (topic === undefined) return null;
    topic.row = { ...topic.row, ...change };
    return topic.row;
  }

  /** @returns the topic after the call, with at least `count` partitions. */
  addPartitions(topicId: number, count: number): TopicRow | null {
    const topic = this.topics.get(topicId);
    if (topic === undefined) return null;
    const partitions = [...topic.row.partitions];
    while (partitions.length < count) {
      partitions.push({ id: ++this.#partitionIds, partition: partitions.length });
      topic.partitions.push({ batches: [], values: [] });
    }
    topic.row = { ...topic.row, partitions };
    return topic.row;
  }

  partition(topicId: number, partition: number): StoredPartition {
    const found = this.topics.get(topicId)?.partitions[partition];
    assert(found !== undefined, `there is no partition ${partition} of topic ${topicId}`);
    return found;
  }

  /** The batches of a partition; none if its topic is gone. */
  #batches(topicId: number, partition: number): StoredPartition['batches'] {
    return this.topics.get(topicId)?.partitions[partition]?.batches ?? [];
  }

  append({ batches, keys }: AppendTransaction): AppendedBatch[] {
    for (const { topicId, segment } of batches) {
      if (this.topics.get(topicId)?.row.segment !== segment) throw new SegmentMoved('appends go to another segment');
    }
    const appended = batches.map((batch) => this.#append(batch));
    for (const { topicId, key, batch, index } of keys) {
      const { partition } = batches[batch]!;
      const offset = appended[batch]!.baseOffset + index;
      this.topics.get(topicId)!.keys.set(key, { partition, offset, atMs: this.#world.nowMs });
    }
    return appended;
  }

  /** Answers like `append`, but writes nothing. */
  pretend({ batches }: AppendTransaction): AppendedBatch[] {
    return batches.map(({ topicId, partition }) => ({
      baseOffset: this.partition(topicId, partition).values.length,
      appendTimeUs: this.#timeUs(this.partition(topicId, partition)),
    }));
  }

  ends(topicId: number): LogEnd[] {
    const partitions = this.topics.get(topicId)?.partitions ?? [];
    return partitions.map(({ values }, partition) => ({
      partition,
      lane: 0,
      startOffset: 0,
      endOffset: values.length,
    }));
  }

  /** Copies, as rows are: what a reader does to them changes nothing here. */
  read({ topicId, partition, offset, bytesMax }: ReadRequest): StoredBatch[] {
    const batches = this.#batches(topicId, partition);
    const from = batches.findIndex((batch) => offset < endOf(batch));
    const found: StoredBatch[] = [];
    let bytes = 0;
    for (const { baseOffset, appendTimeUs, records, byteSize } of from < 0 ? [] : batches.slice(from)) {
      if (found.length > 0 && bytes >= Math.min(bytesMax, this.readBytesMax)) break;
      bytes += byteSize;
      found.push({ baseOffset, appendTimeUs, records: copyOf(records) });
    }
    return found;
  }

  offsetAtTime(topicId: number, partition: number, timeUs: number): number | null {
    const found = this.#batches(topicId, partition).find(({ appendTimeUs }) => appendTimeUs >= timeUs);
    return found?.baseOffset ?? null;
  }

  appendAges(topicId: number, places: readonly RecordPlace[]): (number | null)[] {
    return places.map(({ partition, offset }) => {
      const batches = this.#batches(topicId, partition);
      const batch = batches.find((one) => offset >= one.baseOffset && offset < endOf(one));
      return batch === undefined ? null : this.#world.nowMs - batch.appendTimeUs / 1_000;
    });
  }

  findKeys(topicId: number, windowMs: number, keys: readonly string[]): Map<string, IdempotencyHit> {
    const known = this.topics.get(topicId)?.keys;
    const found = new Map<string, IdempotencyHit>();
    for (const key of keys) {
      const hit = known?.get(key);
      if (hit === undefined || this.#world.nowMs - hit.atMs >= windowMs) continue;
      found.set(key, { partition: hit.partition, offset: hit.offset });
    }
    return found;
  }

  makeSegment(topicId: number, current: number): void {
    const topic = this.topics.get(topicId);
    if (topic?.row.segment === current) topic.nextIsMade = true;
  }

  roll(topicId: number, current: number): number {
    const topic = this.topics.get(topicId);
    if (topic === undefined) throw topicNotFound({ deletedId: topicId });
    if (topic.row.segment !== current || !topic.nextIsMade) return topic.row.segment;
    topic.row = { ...topic.row, segment: current + 1 };
    topic.nextIsMade = false;
    topic.segmentBytes = 0;
    topic.segmentSinceMs = this.#world.nowMs;
    return topic.row.segment;
  }

  /** A share of the segments (`fullRate`) looks full. */
  segmentSize(topicId: number): SegmentSize {
    const looksFull = this.#world.chance(this.fullRate);
    const topic = this.topics.get(topicId);
    if (topic === undefined) return { bytes: 0, ageMs: 0, nextIsMade: false };
    const { segmentBytes, segmentSinceMs, nextIsMade } = topic;
    return { bytes: looksFull ? 1e9 : segmentBytes, ageMs: this.#world.nowMs - segmentSinceMs, nextIsMade };
  }

  /** The time of the next append to the partition, which never falls. */
  #timeUs({ batches }: StoredPartition): number {
    return Math.max(Math.floor(this.#world.nowMs * 1_000), batches.at(-1)?.appendTimeUs ?? 0);
  }

  #append({ topicId, partition, records, recordCount, byteSize }: BatchToAppend): AppendedBatch {
    const stored = this.partition(topicId, partition);
    const { batches, values } = stored;
    const baseOffset = values.length;
    const appendTimeUs = this.#timeUs(stored);
    for (const { set, indexes } of records) {
      for (const index of indexes) {
        const at = index * boundsPerRecord + 4;
        const value = set.buffer.toString('utf8', set.bounds[at], set.bounds[at + 1]);
        this.onRecord(topicId, partition, values.length, value);
        values.push(value);
      }
    }
    if (values.length !== baseOffset + recordCount) throw new Error('the batch has not as many records as it says');
    batches.push({ baseOffset, appendTimeUs, records: copyOf(records), byteSize });
    this.topics.get(topicId)!.segmentBytes += byteSize;
    return { baseOffset, appendTimeUs };
  }
}

const countOf = (records: readonly RecordSelection[]): number =>
  records.reduce((sum, { indexes }) => sum + indexes.length, 0);

const endOf = ({ baseOffset, records }: StoredBatch): number => baseOffset + countOf(records);

/** The records in a buffer of their own. */
function copyOf(records: readonly RecordSelection[]): RecordSelection[] {
  return records.map(({ set, indexes }) => {
    const bounds = new Int32Array(indexes.length * boundsPerRecord);
    const parts: Buffer[] = [];
    let [at, end] = [0, 0];
    for (const index of indexes) {
      for (let part = 0; part < boundsPerRecord; part += 2) {
        const from = index * boundsPerRecord + part;
        const bytes = set.buffer.subarray(set.bounds[from], set.bounds[from + 1]);
        parts.push(bytes);
        bounds[at++] = end;
        bounds[at++] = end += bytes.length;
      }
    }
    return { set: { buffer: Buffer.concat(parts), bounds, count: indexes.length }, indexes: allOf(indexes.length) };
  });
}
