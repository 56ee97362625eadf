import assert from 'node:assert/strict';
import { Fault } from '../../src/errors/fault.ts';
import { topicNotFound } from '../../src/errors/rejections/topics.ts';
import { sliceBytes, type StoredBatch } from '../../src/log/batch.ts';
import type { AckTable } from '../../src/commit/ack-ring.ts';
import {
  SegmentMoved,
  type AckRow,
  type AppendedBatch,
  type AppendTransaction,
  type CommitStore,
} from '../../src/commit/store.ts';
import type { StoredWatermarks } from '../../src/lifecycle/store.ts';
import type { IdempotencyHit } from '../../src/log/known-keys.ts';
import {
  BelowLogStart,
  type LogEnd,
  type LogStore,
  type ReadRequest,
  type RecordPlace,
  type SegmentSize,
  type StoredStart,
  type TopicRow,
} from '../../src/log/store.ts';
import type { Clock } from '../../src/time/clock.ts';
import { MemoryGroups } from './memory-group-store.ts';
import { MemoryDrops } from './retention/memory-drops.ts';
import { logKey, newTopicFields, StoredSegments } from './retention/stored-segments.ts';

interface StoredLog {
  batches: (StoredBatch & { readonly count: number; readonly byteSize: number })[];
  endOffset: number;
}

interface StoredKey extends IdempotencyHit {
  readonly storedAtMs: number;
}

interface StoredTopic {
  row: TopicRow;
  readonly logs: Map<string, StoredLog>;
  readonly keys: Map<string, StoredKey>;
  readonly segments: StoredSegments;
  /** Bytes appended to the current segment. */
  segmentBytes: number;
}

/** What the brokers of one database share of their logs. */
export class MemoryLogs {
  readonly topics = new Map<number, StoredTopic>();
  readonly drops = new MemoryDrops();
  readonly watermarks = new Map<string, StoredWatermarks>();
  /** Appends of a broker of another epoch are refused. */
  epoch = 1;
  /** The database's clock. */
  nowMs: () => number = () => 0;
  /** How many ACTIVE and PAUSED subscriptions a topic has. */
  liveSubscriptions: (topicId: number) => number = () => 0;
  #topicIds = 0;
  #partitionIds = 0;

  addTopic(name: string, partitions: number, changes: Partial<TopicRow> = {}): TopicRow {
    const row: TopicRow = {
      id: ++this.#topicIds,
      name,
      semantics: 'PUB_SUB',
      idempotencyWindowMs: 120_000,
      description: '',
      createdAtMs: 0,
      partitions: Array.from({ length: partitions }, (_, partition) => ({ id: ++this.#partitionIds, partition })),
      segment: 1,
      ...newTopicFields,
      ...changes,
    };
    const logs = new Map<string, StoredLog>();
    for (const { partition } of row.partitions) logs.set(logKey(partition, 0), { batches: [], endOffset: 0 });
    const segments = new StoredSegments(row.segment, row.createdAtMs);
    this.topics.set(row.id, { row, logs, keys: new Map(), segments, segmentBytes: 0 });
    return row;
  }

  /** The topic as the database answers now. */
  rowOf({ row, segments }: StoredTopic): TopicRow {
    return { ...row, ...segments.sizes(this.nowMs()), liveSubscriptions: this.liveSubscriptions(row.id) };
  }

  /** The topic has `count` partitions, or as many as it has if they are more. */
  addPartitions(topicId: number, count: number): TopicRow {
    const topic = this.topic(topicId);
    const partitions = [...topic.row.partitions];
    while (partitions.length < count) {
      const partition = partitions.length;
      partitions.push({ id: ++this.#partitionIds, partition });
      topic.logs.set(logKey(partition, 0), { batches: [], endOffset: 0 });
    }
    topic.row = { ...topic.row, partitions };
    return this.rowOf(topic);
  }

  topic(topicId: number): StoredTopic {
    const topic = this.topics.get(topicId);
    if (topic === undefined) throw new Fault('DATA_REFUSED', `there is no topic ${topicId}`);
    return topic;
  }

  log(topicId: number, partition: number, lane = 0): StoredLog {
    return this.topic(topicId).logs.get(logKey(partition, lane))!;
  }

  /** The starts and ends of a topic's logs; none if it is gone. */
  ends(topicId: number): LogEnd[] {
    const topic = this.topics.get(topicId);
    if (topic === undefined) return [];
    const { logs, row, segments } = topic;
    return row.partitions.map(({ partition }) => {
      const key = logKey(partition, 0);
      const offsets = { startOffset: segments.startOf(key), segmentBaseOffset: segments.baseOf(key) };
      return { partition, lane: 0, endOffset: logs.get(key)!.endOffset, ...offsets };
    });
  }

  /** Removes a topic. Its tables have to go. */
  remove(topicId: number): void {
    const topic = this.topics.get(topicId);
    this.topics.delete(topicId);
    if (topic === undefined) return;
    const ends = new Map(Array.from(topic.logs, ([key, { endOffset }]) => [key, endOffset]));
    this.drops.deleted(topic, ends, this.nowMs());
  }

  /** Removes the segments up to this one with their records. */
  drop(topicId: number, segment: number): void {
    const { segments, logs } = this.topic(topicId);
    segments.dropTo(segment);
    for (const [key, log] of logs) {
      log.batches = log.batches.filter(({ baseOffset }) => baseOffset >= segments.startOf(key));
    }
  }

  /** The batches of a log; none if it or its topic is gone. */
  batches(topicId: number, partition: number, lane: number): StoredLog['batches'] {
    return this.topics.get(topicId)?.logs.get(logKey(partition, lane))?.batches ?? [];
  }
}

export type LogCall = Exclude<keyof LogStore | keyof CommitStore, 'appendSlots'>;

/** LogStore and CommitStore in memory, with the faults that a test or the simulation asks for. */
export class MemoryLogStore implements LogStore, CommitStore {
  readonly shared: MemoryLogs;
  /** Where settlements go. */
  readonly groups: MemoryGroups;
  readonly appendSlots: number;
  /** Transactions that were written, in their order. */
  readonly appended: AppendTransaction[] = [];
  readonly calls: LogCall[] = [];
  /**
   * Called before each call has any effect: may wait, or throw the fault that the call fails with.
   */
  before: (call: LogCall, transaction?: AppendTransaction) => Promise<void> | void = () => undefined;
  /**
   * Called after the effect, before the answer: throwing here is an answer that was lost, waiting
   * one that is late.
   */
  after: (call: LogCall) => Promise<void> | void = () => undefined;
  readonly #clock: Clock;
  readonly #epoch: number;
  readonly #busySlots = new Set<number>();

  constructor(clock: Clock, { shared = new MemoryLogs(), groups = new MemoryGroups(), appendSlots = 1 } = {}) {
    this.groups = groups;
    this.shared = shared;
    this.appendSlots = appendSlots;
    this.#clock = clock;
    this.#epoch = shared.epoch;
  }

  async append(slot: number, transaction: AppendTransaction): Promise<AppendedBatch[]> {
    if (slot < 0 || slot >= this.appendSlots) throw new Error(`there is no slot ${slot}`);
    if (this.#busySlots.has(slot)) throw new Error(`two appends at once on slot ${slot}`);
    this.#busySlots.add(slot);
    try {
      return await this.#call('append', () => this.#write(transaction), transaction);
    } finally {
      this.#busySlots.delete(slot);
    }
  }

  appendAcks(row: AckRow): Promise<void> {
    return this.#call('appendAcks', () => {
      this.#demandOwner();
      this.groups.ackLog.push(structuredClone(row));
    });
  }

  hasReceipt(table: AckTable, receipt: string): Promise<boolean> {
    return this.#call('hasReceipt', () => {
      this.#demandOwner();
      return this.groups.hasReceipt(table, receipt);
    });
  }

  ends(topicId: number): Promise<LogEnd[]> {
    return this.#call('ends', () => {
      this.#demandOwner();
      return this.shared.ends(topicId);
    });
  }

  endsOf(topicIds: readonly number[]): Promise<Map<number, LogEnd[]>> {
    return this.#call('endsOf', () => {
      const present = topicIds.filter((id) => this.shared.topics.has(id));
      return new Map(present.map((id) => [id, this.shared.ends(id)]));
    });
  }

  starts(topicId: number): Promise<StoredStart[]> {
    return this.#call('starts', () => {
      const topic = this.shared.topics.get(topicId);
      return topic?.segments.starts(topic.row.partitions.length) ?? [];
    });
  }

  read({ topicId, partition, lane, offset, bytesMax }: ReadRequest): Promise<StoredBatch[]> {
    return this.#call('read', () => {
      const start = this.shared.topics.get(topicId)?.segments.startOf(logKey(partition, lane)) ?? 0;
      if (offset < start) throw new BelowLogStart(`${offset} is below ${start}`);
      const batches = this.shared.batches(topicId, partition, lane);
      const from = batches.findIndex((batch) => offset < batch.baseOffset + batch.count);
      if (from < 0) return [];
      let until = from;
      for (let bytes = 0; until < batches.length && (until === from || bytes < bytesMax); until++) {
        bytes += batches[until]!.byteSize;
      }
      return batches.slice(from, until);
    });
  }

  offsetAtTime(topicId: number, partition: number, lane: number, timeUs: number): Promise<number | null> {
    return this.#call('offsetAtTime', () => {
      const batches = this.shared.batches(topicId, partition, lane);
      return batches.find(({ appendTimeUs }) => appendTimeUs >= timeUs)?.baseOffset ?? null;
    });
  }

  appendAges(topicId: number, places: readonly RecordPlace[]): Promise<(number | null)[]> {
    return this.#call('appendAges', () =>
      places.map(({ partition, lane, offset }) => {
        const batches = this.shared.batches(topicId, partition, lane);
        const batch = batches.find(({ baseOffset, count }) => offset >= baseOffset && offset < baseOffset + count);
        return batch === undefined ? null : this.#clock.wallMs() - batch.appendTimeUs / 1_000;
      }),
    );
  }

  findKeys(topicId: number, windowMs: number, keys: readonly string[]): Promise<Map<string, IdempotencyHit>> {
    return this.#call('findKeys', () => {
      const stored = this.shared.topics.get(topicId)?.keys;
      const found = new Map<string, IdempotencyHit>();
      for (const key of keys) {
        const hit = stored?.get(key);
        if (hit === undefined || this.#clock.wallMs() - hit.storedAtMs >= windowMs) continue;
        found.set(key, { partition: hit.partition, offset: hit.offset });
      }
      return found;
    });
  }

  makeSegment(topicId: number, current: number): Promise<void> {
    return this.#call('makeSegment', () => {
      this.#demandOwner();
      const topic = this.shared.topics.get(topicId);
      if (topic?.segments.current.segment === current) topic.segments.nextIsMade = true;
    });
  }

  rollSegment(topicId: number, current: number, bytes?: number): Promise<number> {
    return this.#call('rollSegment', () => {
      this.#demandOwner();
      const topic = this.shared.topics.get(topicId);
      if (topic === undefined) throw topicNotFound({ deletedId: topicId });
      const { segments } = topic;
      if (segments.current.segment === current && segments.nextIsMade) this.moveSegment(topicId, bytes);
      return segments.current.segment;
    });
  }

  saveSegmentBytes(topicId: number, segment: number, bytes: number): Promise<void> {
    return this.#call('saveSegmentBytes', () => {
      this.#demandOwner();
      const current = this.shared.topics.get(topicId)?.segments.current;
      if (current?.segment === segment) current.bytes = bytes;
    });
  }

  segmentSize(topicId: number): Promise<SegmentSize> {
    return this.#call('segmentSize', () => {
      const topic = this.shared.topics.get(topicId);
      if (topic === undefined) return { bytes: 0, ageMs: 0, nextIsMade: false, hasData: false };
      const { segmentBytes: bytes, segments } = topic;
      const ageMs = this.#clock.wallMs() - segments.current.sinceMs;
      return { bytes, ageMs, nextIsMade: segments.nextIsMade, hasData: bytes > 0 };
    });
  }

  turnIdempotencyRing(): Promise<void> {
    return this.#call('turnIdempotencyRing', () => {
      this.#demandOwner();
    });
  }

  /** The topic's next segment begins without its broker knowing. */
  moveSegment(topicId: number, bytes?: number): void {
    const topic = this.shared.topic(topicId);
    const ends = new Map(Array.from(topic.logs, ([key, { endOffset }]) => [key, endOffset]));
    const times = [...topic.logs.values()].flatMap(({ batches }) => batches.at(-1)?.appendTimeUs ?? []);
    topic.segments.roll(this.#clock.wallMs(), ends, times.length === 0 ? null : Math.max(...times) / 1_000, bytes);
    topic.row = { ...topic.row, segment: topic.segments.current.segment };
    topic.segmentBytes = 0;
  }

  /** How often a call was made. */
  count(call: LogCall): number {
    return this.calls.filter((one) => one === call).length;
  }

  #write(transaction: AppendTransaction): AppendedBatch[] {
    assertWellFormed(transaction);
    this.#demandOwner();
    for (const { topicId, segment } of transaction.batches) {
      if (this.shared.topics.get(topicId)?.segments.current.segment !== segment) throw new SegmentMoved();
    }
    const storedAtMs = this.#clock.wallMs();
    const answers = transaction.batches.map(({ topicId, partition, lane, records, recordCount, byteSize }) => {
      const topic = this.shared.topic(topicId);
      const log = topic.logs.get(logKey(partition, lane))!;
      const appendTimeUs = Math.max(Math.round(storedAtMs * 1_000), log.batches.at(-1)?.appendTimeUs ?? 0);
      const baseOffset = log.endOffset;
      log.batches.push({ baseOffset, appendTimeUs, records, count: recordCount, byteSize });
      log.endOffset += recordCount;
      topic.segmentBytes += byteSize;
      return { baseOffset, appendTimeUs };
    });
    for (const { topicId, key, batch, index } of transaction.keys) {
      const { partition } = transaction.batches[batch]!;
      const hit = { partition, offset: answers[batch]!.baseOffset + index, storedAtMs };
      this.shared.topic(topicId).keys.set(key, hit);
    }
    if (transaction.acks !== null) this.groups.ackLog.push(structuredClone(transaction.acks));
    this.appended.push(transaction);
    return answers;
  }

  #demandOwner(): void {
    if (this.#epoch !== this.shared.epoch) throw new Fault('FENCED', 'another broker has taken over');
  }

  async #call<T>(call: LogCall, effect: () => T, transaction?: AppendTransaction): Promise<T> {
    this.calls.push(call);
    await this.before(call, transaction);
    const result = effect();
    await this.after(call);
    return result;
  }
}

/** What PostgreSQL would not notice, or would answer with a deadlock. */
function assertWellFormed({ batches }: AppendTransaction): void {
  batches.forEach(({ partitionId, records, recordCount, byteSize }, i) => {
    assert(i === 0 || batches[i - 1]!.partitionId <= partitionId, 'locks are taken in the order of partition ids');
    let count = 0;
    let bytes = 0;
    for (const { set, indexes } of records) {
      count += indexes.length;
      for (const index of indexes) bytes += sliceBytes(set, index);
    }
    assert.deepEqual({ recordCount, byteSize }, { recordCount: count, byteSize: bytes });
    assert(count > 0, 'a batch holds a record');
  });
}
