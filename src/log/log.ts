import { limits, type TunableLimits } from '../limits/limits.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Clock } from '../time/clock.ts';
import type { Logger } from '../time/logger.ts';
import { Once } from '../time/once.ts';
import type { BatchCodec } from './batch.ts';
import type { PartitionLog } from './partition-log.ts';
import { Reader } from './reader.ts';
import { SegmentKeeper } from './segment-keeper.ts';
import type { LogStore, RecordPlace, TopicRow } from './store.ts';
import { TailCache } from './tail-cache.ts';
import { Topic } from './topic.ts';

export interface LogDeps {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly codec: BatchCodec;
  readonly limits: Pick<TunableLimits, 'tailCacheBytesMax'>;
  readonly log: Logger;
}

const readCacheBytesMax = 16 * 1_048_576;
/** How many topics are asked for their ends at once when the log is opened. */
const opensAtOnce = 8;
const refreshRetryMs = 250;

/** What appends to the log, as the log sees it. */
export interface Appends {
  /** Does `work` while no append of the topic is in flight; those that come meanwhile wait. */
  whileQuiet<T>(topic: Topic, work: () => Promise<T>): Promise<T>;
  /** The topic is gone: nothing that waits for it is appended. */
  removeTopic(topic: Topic): void;
}

/** The log of all topics: which there are, and what is in their partitions. `src/commit` appends to it. */
export class Log implements BackgroundJob {
  readonly #d: LogDeps;
  readonly #byName = new Map<string, Topic>();
  readonly #byId = new Map<number, Topic>();
  readonly #adding = new Once<number, void>();
  readonly #tails: TailCache;
  readonly #reader: Reader;
  readonly #segments: SegmentKeeper;
  /** null: nothing appends yet. */
  #appends: Appends | null = null;
  /** Topics whose refresh failed, each with what cancels its next one. */
  readonly #refreshes = new Map<Topic, () => void>();
  #stopped = false;
  #opened = false;

  constructor(deps: LogDeps) {
    this.#d = deps;
    const { store, clock, codec } = deps;
    const joinBytesMax = limits.deliveryChunkBytes;
    this.#tails = new TailCache({ codec, bytesMax: deps.limits.tailCacheBytesMax, joinBytesMax });
    this.#reader = new Reader({
      store,
      codec,
      fetchBytesMax: limits.readFetchBytesMax,
      chunkBytes: limits.deliveryChunkBytes,
      cacheBytesMax: readCacheBytesMax,
    });
    this.#segments = new SegmentKeeper({
      store,
      clock,
      log: deps.log,
      topics: () => this.#byId.values(),
      whileQuiet: (topic, work) => (this.#appends === null ? work() : this.#appends.whileQuiet(topic, work)),
    });
  }

  /** From now on `appends` appends to this log. */
  attach(appends: Appends): void {
    this.#appends = appends;
  }

  /** Reads where the logs of all topics begin and end. @throws Fault */
  async open(rows: readonly TopicRow[]): Promise<void> {
    const waiting = [...rows];
    const openNext = async (): Promise<void> => {
      for (let row = waiting.pop(); row !== undefined; row = waiting.pop()) await this.addTopic(row);
    };
    await Promise.all(Array.from({ length: opensAtOnce }, openNext));
    this.#opened = true;
  }

  /** Takes a topic in; once, however often it is called. @throws Fault */
  addTopic(row: TopicRow): Promise<void> {
    if (this.#byId.has(row.id)) return Promise.resolve();
    return this.#adding.run(row.id, () => this.#add(row));
  }

  changeTopic(row: TopicRow): void {
    const topic = this.#byId.get(row.id);
    // Its partitions are taken in by `growTopic` alone: a change that was read before may come after.
    if (topic !== undefined) topic.row = { ...row, partitions: topic.row.partitions };
  }

  /**
   * Takes in partitions that were added to the topic: what is published from now on goes by their number, what waits or is in
   * flight goes where it was to go.
   */
  growTopic({ id, partitions }: TopicRow): void {
    this.#byId.get(id)?.grow(partitions);
  }

  /** Publishes that wait for the topic fail with TOPIC_NOT_FOUND. */
  removeTopic(topicId: number): void {
    const topic = this.#byId.get(topicId);
    if (topic === undefined) return;
    topic.removed = true;
    this.#byId.delete(topicId);
    this.#byName.delete(topic.row.name);
    this.#appends?.removeTopic(topic);
    for (const partition of topic.partitions) {
      partition.forget();
      this.#reader.forget(partition.address);
    }
  }

  topic(name: string): TopicRow | undefined {
    return this.#byName.get(name)?.row;
  }

  *topics(): Generator<TopicRow> {
    for (const topic of this.#byName.values()) yield topic.row;
  }

  /** The topic at work. */
  topicAtWork(name: string): Topic | undefined {
    return this.#byName.get(name);
  }

  /** How many lanes each partition of the topic has. */
  lanes(topicId: number): number {
    return this.#byId.get(topicId)?.lanes ?? 1;
  }

  /** By partition and lane; empty for a topic that is not there. */
  partitionLogs(topicId: number): readonly PartitionLog[] {
    return this.#byId.get(topicId)?.partitions ?? [];
  }

  /** How long ago records of a topic were appended, in milliseconds; null where there is none. @throws Fault */
  appendAges(topicId: number, places: readonly RecordPlace[]): Promise<(number | null)[]> {
    return this.#d.store.appendAges(topicId, places);
  }

  /** So many bytes were appended to the topic. */
  appended(topic: Topic, bytes: number): void {
    this.#segments.appended(topic, bytes);
  }

  /** Encodes what was appended last for its readers. */
  encodeTails(): void {
    this.#tails.encodeAll();
  }

  /** Reads the ends of a topic's logs again, until that succeeds: readers of these logs wait for their ends too. */
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

  /** Begins what happens from time to time. */
  start(): void {
    this.#stopped = false;
    this.#segments.start();
  }

  stop(): Promise<void> {
    this.#stopped = true;
    for (const cancel of this.#refreshes.values()) cancel();
    this.#refreshes.clear();
    return this.#segments.stop();
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
    const { store, codec, clock } = this.#d;
    const parts = { store, codec, tails: this.#tails, reader: this.#reader };
    // Keys of a topic that was there before this process may be in the database only.
    const topic = new Topic(row, parts, this.#opened ? -Infinity : clock.nowMs());
    await topic.refresh();
    this.#byId.set(row.id, topic);
    this.#byName.set(row.name, topic);
  }
}
