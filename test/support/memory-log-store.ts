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
import type { IdempotencyHit } from '../../src/log/known-keys.ts';
import type { LogEnd, LogStore, ReadRequest, RecordPlace, SegmentSize, TopicRow } from '../../src/log/store.ts';
import type { Clock } from '../../src/time/clock.ts';
import { MemoryGroups } from './memory-group-store.ts';

interface StoredLog {
  readonly batches: (StoredBatch & { readonly count: number; readonly byteSize: number })[];
  startOffset: number;
  endOffset: number;
}

interface StoredKey extends IdempotencyHit {
  readonly storedAtMs: number;
}

interface StoredTopic {
  row: TopicRow;
  readonly logs: Map<string, StoredLog>;
  readonly keys: Map<string, StoredKey>;
  segment: number;
  segmentBytes: number;
  segmentSinceMs: number;
  nextIsMade: boolean;
}

const logKey = (partition: number, lane: number): string => `${partition}/${lane}`;

/** What the brokers of one database share of their logs. */
export class MemoryLogs {
  readonly topics = new Map<number, StoredTopic>();
  /** Appends of a broker of another epoch are refused. */
  epoch = 1;
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
      ...changes,
    };
    const logs = new Map<string, StoredLog>();
    for (const { partition } of row.partitions) {
      logs.set(logKey(partition, 0), { batches: [], startOffset: 0, endOffset: 0 });
    }
    const segment = { segment: row.segment, segmentBytes: 0, segmentSinceMs: 0, nextIsMade: false };
    this.topics.set(row.id, { row, logs, keys: new Map(), ...segment });
    return row;
  }

  /** The topic has `count` partitions, or as many as it has if they are more. */
  addPartitions(topicId: number, count: number): TopicRow {
    const topic = this.topic(topicId);
    const partitions = [...topic.row.partitions];
    while (partitions.length < count) {
      const partition = partitions.length;
      partitions.push({ id: ++this.#partitionIds, partition });
      topic.logs.set(logKey(partition, 0), { batches: [], startOffset: 0, endOffset: 0 });
    }
    topic.row = { ...topic.row, partitions };
    return topic.row;
  }

  topic(topicId: number): StoredTopic {
    const topic = this.topics.get(topicId);
    if (topic === undefined) throw new Fault('DATA_REFUSED', `there is no topic ${topicId}`);
    return topic;
  }

  log(topicId: number, partition: number, lane = 0): StoredLog {
    return this.topic(topicId).logs.get(logKey(partition, lane))!;
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
      const topic = this.shared.topics.get(topicId);
      if (topic === undefined) return [];
      const { logs, row } = topic;
      return row.partitions.map(({ partition }) => {
        const { startOffset, endOffset } = logs.get(logKey(partition, 0))!;
        return { partition, lane: 0, startOffset, endOffset };
      });
    });
  }

  read({ topicId, partition, lane, offset, bytesMax }: ReadRequest): Promise<StoredBatch[]> {
    return this.#call('read', () => {
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
      if (topic?.segment === current) topic.nextIsMade = true;
    });
  }

  rollSegment(topicId: number, current: number): Promise<number> {
    return this.#call('rollSegment', () => {
      this.#demandOwner();
      const topic = this.shared.topics.get(topicId);
      if (topic === undefined) throw topicNotFound({ deletedId: topicId });
      if (topic.segment === current && topic.nextIsMade) this.moveSegment(topicId);
      return topic.segment;
    });
  }

  segmentSize(topicId: number): Promise<SegmentSize> {
    return this.#call('segmentSize', () => {
      const topic = this.shared.topics.get(topicId);
      if (topic === undefined) return { bytes: 0, ageMs: 0, nextIsMade: false };
      const { segmentBytes, segmentSinceMs, nextIsMade } = topic;
      return { bytes: segmentBytes, ageMs: this.#clock.wallMs() - segmentSinceMs, nextIsMade };
    });
  }

  turnIdempotencyRing(): Promise<void> {
    return this.#call('turnIdempotencyRing', () => {
      this.#demandOwner();
    });
  }

  /** The topic's next segment begins without its broker knowing. */
  moveSegment(topicId: number): void {
    const topic = this.shared.topic(topicId);
    topic.segment++;
    topic.row = { ...topic.row, segment: topic.segment };
    topic.nextIsMade = false;
    topic.segmentBytes = 0;
    topic.segmentSinceMs = this.#clock.wallMs();
  }

  /** How often a call was made. */
  count(call: LogCall): number {
    return this.calls.filter((one) => one === call).length;
  }

  #write(transaction: AppendTransaction): AppendedBatch[] {
    assertWellFormed(transaction);
    this.#demandOwner();
    for (const { topicId, segment } of transaction.batches) {
      if (this.shared.topics.get(topicId)?.segment !== segment) throw new SegmentMoved();
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
