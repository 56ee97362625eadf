import type { StoredBatch } from '../../src/log/batch.ts';
import { boundsPerRecord } from '../../src/log/batch.ts';
import {
  SegmentMoved,
  type AppendedBatch,
  type AppendTransaction,
  type BatchToAppend,
} from '../../src/commit/store.ts';
import type { IdempotencyHit } from '../../src/log/known-keys.ts';
import type { LogEnd, NewTopic, ReadRequest, TopicRow } from '../../src/log/store.ts';
import type { World } from './world.ts';

interface StoredTopic {
  row: TopicRow;
  nextIsMade: boolean;
  readonly partitions: StoredPartition[];
  readonly keys: Map<string, IdempotencyHit & { readonly atMs: number }>;
}

interface StoredPartition {
  readonly batches: StoredBatch[];
  /** The values of the records by offset. A value identifies its record. */
  readonly values: string[];
}

const bytesMax = 4_096;

/** The topics, batches and idempotency keys of the database. */
export class LogTables {
  /** Called for each written record. */
  onRecord: (topicId: number, partition: number, offset: number, value: string) => void = () => undefined;
  readonly topics = new Map<number, StoredTopic>();
  readonly #world: World;
  #partitionIds = 0;

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
      id: this.topics.size + 1,
      name,
      semantics: 'PUB_SUB',
      idempotencyWindowMs,
      description,
      createdAtMs: this.#world.nowMs,
      partitions: Array.from({ length: partitions }, (_, partition) => ({ id: ++this.#partitionIds, partition })),
      segment: 1,
    };
    const stored = row.partitions.map(() => ({ batches: [], values: [] }));
    this.topics.set(row.id, { row, nextIsMade: false, partitions: stored, keys: new Map() });
    return row;
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
    return this.topics.get(topicId)!.partitions[partition]!;
  }

  append({ batches, keys }: AppendTransaction): AppendedBatch[] {
    for (const { topicId, segment } of batches) {
      if (this.topics.get(topicId)!.row.segment !== segment) throw new SegmentMoved('appends go to another segment');
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
      appendTimeUs: Math.floor(this.#world.nowMs * 1_000),
    }));
  }

  ends(topicId: number): LogEnd[] {
    return this.topics.get(topicId)!.partitions.map(({ values }, partition) => ({
      partition,
      lane: 0,
      startOffset: 0,
      endOffset: values.length,
    }));
  }

  read({ topicId, partition, offset }: ReadRequest): StoredBatch[] {
    const { batches } = this.partition(topicId, partition);
    const from = batches.findLastIndex(({ baseOffset }) => baseOffset <= offset);
    const found: StoredBatch[] = [];
    let bytes = 0;
    for (const batch of batches.slice(Math.max(0, from))) {
      if (found.length > 0 && bytes > bytesMax) break;
      bytes += batch.records.reduce((sum, { indexes }) => sum + indexes.length * 100, 0);
      found.push(batch);
    }
    return offset < this.partition(topicId, partition).values.length ? found : [];
  }

  offsetAtTime(topicId: number, partition: number, timeUs: number): number | null {
    const found = this.partition(topicId, partition).batches.find(({ appendTimeUs }) => appendTimeUs >= timeUs);
    return found?.baseOffset ?? null;
  }

  findKeys(topicId: number, windowMs: number, keys: readonly string[]): Map<string, IdempotencyHit> {
    const known = this.topics.get(topicId)!.keys;
    const found = new Map<string, IdempotencyHit>();
    for (const key of keys) {
      const hit = known.get(key);
      if (hit !== undefined && this.#world.nowMs - hit.atMs < windowMs) found.set(key, hit);
    }
    return found;
  }

  makeSegment(topicId: number, current: number): void {
    const topic = this.topics.get(topicId)!;
    if (topic.row.segment === current) topic.nextIsMade = true;
  }

  roll(topicId: number, current: number): number {
    const topic = this.topics.get(topicId)!;
    if (topic.row.segment !== current || !topic.nextIsMade) return topic.row.segment;
    topic.row = { ...topic.row, segment: current + 1 };
    topic.nextIsMade = false;
    return topic.row.segment;
  }

  #append({ topicId, partition, records, recordCount }: BatchToAppend): AppendedBatch {
    const { batches, values } = this.partition(topicId, partition);
    const baseOffset = values.length;
    const appendTimeUs = Math.floor(this.#world.nowMs * 1_000);
    for (const { set, indexes } of records) {
      for (const index of indexes) {
        const at = index * boundsPerRecord + 4;
        const value = set.buffer.toString('utf8', set.bounds[at], set.bounds[at + 1]);
        this.onRecord(topicId, partition, values.length, value);
        values.push(value);
      }
    }
    if (values.length !== baseOffset + recordCount) throw new Error('the batch has not as many records as it says');
    batches.push({ baseOffset, appendTimeUs, records });
    return { baseOffset, appendTimeUs };
  }
}
