import assert from 'node:assert/strict';
import { topicNotFound } from '../../../src/errors/rejections/topics.ts';
import { allOf, boundsPerRecord, type RecordSelection, type StoredBatch } from '../../../src/log/batch.ts';
import {
  SegmentMoved,
  type AppendedBatch,
  type AppendTransaction,
  type BatchToAppend,
} from '../../../src/commit/store.ts';
import type { StoredWatermarks } from '../../../src/lifecycle/store.ts';
import type { IdempotencyHit } from '../../../src/log/known-keys.ts';
import {
  BelowLogStart,
  type LogEnd,
  type NewTopic,
  type ReadRequest,
  type RecordPlace,
  type SegmentSize,
  type StoredStart,
  type TopicChange,
  type TopicRow,
} from '../../../src/log/store.ts';
import { MemoryDrops } from '../../support/retention/memory-drops.ts';
import { logKey, newTopicFields, StoredSegments } from '../../support/retention/stored-segments.ts';
import type { World } from '../world.ts';

interface StoredTopic {
  row: TopicRow;
  readonly segments: StoredSegments;
  /** Bytes appended to the current segment. */
  segmentBytes: number;
  readonly partitions: StoredPartition[];
  readonly keys: Map<string, IdempotencyHit & { readonly atMs: number }>;
}

interface StoredPartition {
  batches: (StoredBatch & { readonly byteSize: number })[];
  /** The values of the records by offset. A value identifies its record. */
  readonly values: string[];
}

/** The topics, batches and idempotency keys of the database. */
export class LogTables {
  /** Called for each written record. */
  onRecord: (topicId: number, partition: number, offset: number, value: string) => void = () => undefined;
  readonly topics = new Map<number, StoredTopic>();
  readonly drops = new MemoryDrops();
  readonly watermarks = new Map<string, StoredWatermarks>();
  /** How many ACTIVE and PAUSED subscriptions a topic has. */
  liveSubscriptions: (topicId: number) => number = () => 0;
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
    return Array.from(this.topics.values(), (topic) => this.#rowOf(topic));
  }

  /** -1 if there is no such topic. */
  idOf(name: string): number {
    for (const { row } of this.topics.values()) if (row.name === name) return row.id;
    return -1;
  }

  create({ name, partitions, idempotencyWindowMs, description, retention }: NewTopic): TopicRow | null {
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
      ...newTopicFields,
      retention,
    };
    const stored = row.partitions.map(() => ({ batches: [], values: [] }));
    const segments = new StoredSegments(1, this.#world.nowMs);
    this.topics.set(row.id, { row, segments, segmentBytes: 0, partitions: stored, keys: new Map() });
    return row;
  }

  update(topicId: number, { retention, ...change }: TopicChange): TopicRow | null {
    const topic = this.topics.get(topicId);
    if (topic === undefined) return null;
    topic.row = { ...topic.row, ...change, retention: { ...topic.row.retention, ...retention } };
    return this.#rowOf(topic);
  }

  #rowOf({ row, segments }: StoredTopic): TopicRow {
    return { ...row, ...segments.sizes(this.#world.nowMs), liveSubscriptions: this.liveSubscriptions(row.id) };
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
    return this.#rowOf(topic);
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
    const topic = this.topics.get(topicId);
    if (topic === undefined) return [];
    const { partitions, segments } = topic;
    return partitions.map(({ values }, partition) => {
      const key = logKey(partition, 0);
      const offsets = { startOffset: segments.startOf(key), segmentBaseOffset: segments.baseOf(key) };
      return { partition, lane: 0, endOffset: values.length, ...offsets };
    });
  }

  starts(topicId: number): StoredStart[] {
    const topic = this.topics.get(topicId);
    return topic?.segments.starts(topic.partitions.length) ?? [];
  }

  /** Removes a topic. Its tables have to go. */
  remove(topicId: number): void {
    const topic = this.topics.get(topicId);
    this.topics.delete(topicId);
    if (topic === undefined) return;
    const ends = new Map(topic.partitions.map(({ values }, partition) => [logKey(partition, 0), values.length]));
    this.drops.deleted(topic, ends, this.#world.nowMs);
  }

  /** Removes the segments up to this one with their records. */
  drop(topicId: number, segment: number): void {
    const { segments, partitions } = this.topics.get(topicId)!;
    segments.dropTo(segment);
    for (const [partition, stored] of partitions.entries()) {
      const start = segments.startOf(logKey(partition, 0));
      stored.batches = stored.batches.filter(({ baseOffset }) => baseOffset >= start);
    }
  }

  /** Copies, as rows are: what a reader does to them changes nothing here. */
  read({ topicId, partition, offset, bytesMax }: ReadRequest): StoredBatch[] {
    const batches = this.#batches(topicId, partition);
    const start = this.topics.get(topicId)?.segments.startOf(logKey(partition, 0)) ?? 0;
    if (offset < start) throw new BelowLogStart(`${offset} is below ${start}`);
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
    if (topic?.row.segment === current) topic.segments.nextIsMade = true;
  }

  roll(topicId: number, current: number, bytes?: number): number {
    const topic = this.topics.get(topicId);
    if (topic === undefined) throw topicNotFound({ deletedId: topicId });
    const { segments, partitions } = topic;
    if (segments.current.segment !== current || !segments.nextIsMade) return segments.current.segment;
    const ends = new Map(partitions.map(({ values }, partition) => [logKey(partition, 0), values.length]));
    const times = partitions.flatMap(({ batches }) => batches.at(-1)?.appendTimeUs ?? []);
    segments.roll(this.#world.nowMs, ends, times.length === 0 ? null : Math.max(...times) / 1_000, bytes);
    topic.row = { ...topic.row, segment: current + 1 };
    topic.segmentBytes = 0;
    return current + 1;
  }

  saveSegmentBytes(topicId: number, segment: number, bytes: number): void {
    const current = this.topics.get(topicId)?.segments.current;
    if (current?.segment === segment) current.bytes = bytes;
  }

  /** A share of the segments (`fullRate`) looks full. */
  segmentSize(topicId: number): SegmentSize {
    const looksFull = this.#world.chance(this.fullRate);
    const topic = this.topics.get(topicId);
    if (topic === undefined) return { bytes: 0, ageMs: 0, nextIsMade: false, hasData: false };
    const { segmentBytes, segments } = topic;
    const ageMs = this.#world.nowMs - segments.current.sinceMs;
    const bytes = looksFull ? 1e9 : segmentBytes;
    return { bytes, ageMs, nextIsMade: segments.nextIsMade, hasData: segmentBytes > 0 };
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
