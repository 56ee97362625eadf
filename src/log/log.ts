import type { Account } from '../account/account.ts';
import type { Counted } from '../account/hold.ts';
import type { Owner } from '../account/owner.ts';
import { Trouble } from '../errors/trouble.ts';
import { limits } from '../limits/limits.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Clock } from '../time/clock.ts';
import type { Logger } from '../time/logger.ts';
import { inTurns } from '../time/in-turns.ts';
import { Once } from '../time/once.ts';
import type { BatchCodec } from './batch.ts';
import { EndsLoader } from './ends-loader.ts';
import { KeyMemory } from './known-keys.ts';
import type { PartitionLog } from './partition-log.ts';
import { Reader } from './reader.ts';
import { SegmentKeeper, segmentLimits, type SegmentLimits } from './segment-keeper.ts';
import type { GapReason } from '../retention/gap.ts';
import type { LogStore, RecordPlace, StoredStart, TopicRow } from './store.ts';
import { SortedItems } from './sorted-items.ts';
import { TailCache } from './tail-cache.ts';
import { Topic, topicBytes, type TopicNumbers } from './topic.ts';

interface LogDeps {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly codec: BatchCodec;
  readonly account: Account;
  /** Counts the topics. It closes with the broker. */
  readonly owner: Owner;
  readonly log: Logger;
  /** Default: nobody. */
  readonly watch?: TopicWatch;
  /** Limits of segments for tests and benchmarks. */
  readonly segmentLimits?: Partial<SegmentLimits>;
}

/** Who follows the topics of the log. */
interface TopicWatch {
  added(topic: Topic): void;
  /** Its records, settings, segments or subscriptions have changed. */
  changed(topicId: number): void;
  removed(topicId: number): void;
}

const refreshRetryMs = 250;

/** The log's view of the committer. */
interface Appends {
  /** Runs `work` while no append to the topic is in flight. New appends wait until it ends. */
  whileQuiet<T>(topic: Topic, work: () => Promise<T>): Promise<T>;
  /** Rejects the publishes that wait for the topic, because it was deleted. */
  removeTopic(topic: Topic): void;
}

/** All topics with their partitions. `src/commit` appends to them, and `src/delivery` reads. */
export class Log implements BackgroundJob {
  readonly #d: LogDeps;
  readonly #byName = new Map<string, Topic>();
  readonly #sorted = new SortedItems(
    () => Array.from(this.#byName.values(), ({ row }) => row),
    (a, b) => (a.name < b.name ? -1 : 1),
  );
  readonly #byId = new Map<number, Topic>();
  readonly #adding = new Once<number, void>();
  readonly #tails: TailCache;
  readonly #reader: Reader;
  readonly #keys: KeyMemory;
  readonly #counted: Counted;
  readonly #segments: SegmentKeeper;
  readonly #ends: EndsLoader;
  readonly #missing: Trouble;
  /** Null until a committer is attached. */
  #appends: Appends | null = null;
  /** Topics whose refresh failed, each with the function that cancels the retry. */
  readonly #refreshes = new Map<Topic, () => void>();
  #stopped = false;
  #opened = false;

  constructor(deps: LogDeps) {
    this.#d = deps;
    const { store, clock, codec, account } = deps;
    const joinBytesMax = limits.deliveryChunkBytes;
    this.#missing = new Trouble({ what: 'reads of records', clock, log: deps.log });
    this.#tails = new TailCache({ codec, account, joinBytesMax });
    this.#counted = deps.owner.kind('topics');
    this.#ends = new EndsLoader({
      store,
      clock,
      trouble: new Trouble({ what: 'the load of the ends of the logs', clock, log: deps.log }),
    });
    this.#keys = new KeyMemory(account.kind('keys'));
    this.#reader = new Reader({
      store,
      codec,
      fetchBytesMax: limits.readFetchBytesMax,
      chunkBytes: limits.deliveryChunkBytes,
      account,
    });
    this.#segments = new SegmentKeeper({
      store,
      clock,
      log: deps.log,
      topics: () => this.#byId.values(),
      limits: { ...segmentLimits, ...deps.segmentLimits },
      onRolled: (topicId) => deps.watch?.changed(topicId),
      whileQuiet: (topic, work) => (this.#appends === null ? work() : this.#appends.whileQuiet(topic, work)),
    });
  }

  /** Connects the log to its committer. */
  attach(appends: Appends): void {
    this.#appends = appends;
  }

  /**
   * Adds all topics. The starts and ends of their logs are read from `start` on, while calls are
   * served: a call that needs them waits for `untilOpen`.
   */
  open(rows: readonly TopicRow[]): void {
    for (const row of rows) {
      if (this.#byId.has(row.id)) continue;
      const topic = this.#made(row, (isUrgent) => this.#ends.opened(row.id, isUrgent));
      this.#put(topic);
      this.#ends.add(topic);
    }
    this.#opened = true;
  }

  /**
   * Resolves when the starts and ends of the topic's logs have been read once.
   * @param isUrgent a call waits for them.
   * @throws Fault
   */
  async untilOpen(topicId: number, isUrgent = true): Promise<void> {
    await this.#byId.get(topicId)?.untilOpen(isUrgent);
  }

  /** Adds a topic. Repeated and concurrent calls add it once. @throws Fault */
  addTopic(row: TopicRow): Promise<void> {
    if (this.#byId.has(row.id)) return Promise.resolve();
    return this.#adding.run(row.id, () => this.#add(row));
  }

  changeTopic(row: TopicRow): void {
    const topic = this.#byId.get(row.id);
    // The row's partitions are ignored, because it may have been read before the topic grew.
    if (topic === undefined) return;
    this.#recount(topic, () => {
      topic.row = { ...row, partitions: topic.row.partitions };
    });
    this.#d.watch?.changed(row.id);
  }

  /**
   * Adds new partitions to the topic. Later publishes are routed by the new number. Publishes that
   * wait or are in flight keep the partition that was chosen for them.
   */
  growTopic({ id, partitions }: TopicRow): void {
    const topic = this.#byId.get(id);
    if (topic === undefined) return;
    this.#recount(topic, () => {
      topic.grow(partitions);
    });
  }

  /** Removes a topic. Publishes that wait for it are rejected with TOPIC_NOT_FOUND. */
  removeTopic(topicId: number): void {
    const topic = this.#byId.get(topicId);
    if (topic === undefined) return;
    topic.removed = true;
    topic.keys.close();
    this.#counted.give(bytesOf(topic));
    this.#byId.delete(topicId);
    this.#byName.delete(topic.row.name);
    this.#sorted.changed();
    this.#d.watch?.removed(topicId);
    this.#appends?.removeTopic(topic);
    for (const partition of topic.partitions) partition.remove();
  }

  topic(name: string): TopicRow | undefined {
    return this.#byName.get(name)?.row;
  }

  /** In the order of their names. */
  topics(): readonly TopicRow[] {
    return this.#sorted.all;
  }

  /** The topic itself, which publishes need; `topic` returns only its row. */
  topicAtWork(name: string): Topic | undefined {
    return this.#byName.get(name);
  }

  topicOf(topicId: number): Topic | undefined {
    return this.#byId.get(topicId);
  }

  topicsAtWork(): Iterable<Topic> {
    return this.#byId.values();
  }

  /** Resolves when the ends of the topic's logs are known. No call waits for them. @throws Fault */
  async known(topicId: number): Promise<void> {
    const topic = this.#byId.get(topicId);
    await topic?.untilOpen(false);
    if (topic?.isKnown === false) await topic.refresh();
  }

  /** How many lanes each partition of the topic has. */
  lanes(topicId: number): number {
    return this.#byId.get(topicId)?.lanes ?? 1;
  }

  /** How many records the logs of the topic have got together. */
  appendedRecords(topicId: number): number {
    return this.#byId.get(topicId)?.ends ?? 0;
  }

  /** For metrics of each topic that has opened. The caller takes a few at a time. */
  *numbers(): Generator<TopicNumbers> {
    for (const topic of this.#byId.values()) if (topic.isOpen) yield topic.numbers();
  }

  /** Sorted by partition and lane; empty if there is no such topic. */
  partitionLogs(topicId: number): readonly PartitionLog[] {
    return this.#byId.get(topicId)?.partitions ?? [];
  }

  /**
   * Ages of records since their append, in milliseconds; null if a place has no record.
   * @throws Fault
   */
  appendAges(topicId: number, places: readonly RecordPlace[]): Promise<(number | null)[]> {
    return this.#d.store.appendAges(topicId, places);
  }

  /** Counts appended bytes, so that the next segment begins in time. */
  appended(topic: Topic, bytes: number): void {
    topic.hasData = true;
    this.#segments.appended(topic, bytes);
    this.#d.watch?.changed(topic.row.id);
  }

  /** Moves the starts of a topic's logs behind dropped records, and tells their readers. */
  async trim(topicId: number, starts: readonly StoredStart[], gapReason: GapReason): Promise<void> {
    const topic = this.#byId.get(topicId);
    if (topic === undefined) return;
    topic.row = { ...topic.row, gapReason };
    await inTurns(this.#d.clock, topic.trim(starts));
  }

  /** Why the last drop took records from cursors that it passed. */
  gapReason(topicId: number): GapReason {
    return this.#byId.get(topicId)?.row.gapReason ?? 'RETENTION';
  }

  /**
   * Counts a subscription that has begun or ended to be ACTIVE or PAUSED; 0: a DEAD one has ended.
   */
  liveSubscriptions(topicId: number, by: 1 | 0 | -1): void {
    const topic = this.#byId.get(topicId);
    if (topic === undefined) return;
    topic.live += by;
    this.#d.watch?.changed(topicId);
  }

  /** Encodes the newest batches for their readers. */
  encodeTails(): void {
    this.#tails.encodeAll();
  }

  /** Reads the ends of a topic's logs again, with retries, because readers wait for them too. */
  refresh(topic: Topic): void {
    if (topic.removed || this.#stopped) return;
    topic.refresh().catch(() => {
      if (this.#stopped) return;
      this.#refreshes.get(topic)?.();
      const cancel = this.#d.clock.after(refreshRetryMs, () => {
        this.#refreshes.delete(topic);
        if (!topic.isKnown) this.refresh(topic);
      });
      this.#refreshes.set(topic, cancel);
    });
  }

  /** Starts the background work. */
  start(): void {
    this.#stopped = false;
    this.#segments.start();
    this.#ends.start();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const cancel of this.#refreshes.values()) cancel();
    this.#refreshes.clear();
    await Promise.all([this.#segments.stop(), this.#ends.stop()]);
  }

  /** For /metrics. */
  stats() {
    return {
      topics: this.#byId.size,
      tailCacheBytes: this.#tails.bytes,
      readCacheBytes: this.#reader.bytes,
    };
  }

  async #add(row: TopicRow): Promise<void> {
    const topic = this.#made(row, null);
    await topic.refresh();
    this.#put(topic);
  }

  #made(row: TopicRow, untilOpened: ((isUrgent: boolean) => Promise<void>) | null): Topic {
    const { store, codec, clock } = this.#d;
    const parts = { store, codec, tails: this.#tails, reader: this.#reader, keys: this.#keys, missing: this.#missing };
    // The database may have keys of a topic that is older than this process.
    const nowMs = clock.nowMs();
    return new Topic(row, parts, {
      nowMs,
      keysCompleteSinceMs: this.#opened ? -Infinity : nowMs,
      untilOpened,
    });
  }

  #put(topic: Topic): void {
    const { row } = topic;
    this.#byId.set(row.id, topic);
    this.#byName.set(row.name, topic);
    this.#sorted.changed();
    this.#counted.force(bytesOf(topic));
    this.#d.watch?.added(topic);
  }

  #recount(topic: Topic, change: () => void): void {
    this.#counted.give(bytesOf(topic));
    change();
    this.#sorted.changed();
    this.#counted.force(bytesOf(topic));
  }
}

function bytesOf({ row: { name, description, partitions } }: Topic): number {
  return topicBytes({ name, description, partitions: partitions.length });
}
