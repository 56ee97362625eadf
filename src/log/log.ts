import { Fault } from '../errors/fault.ts';
import { Rejection } from '../errors/rejection.ts';
import { limits, type TunableLimits } from '../limits/limits.ts';
import type { Clock } from '../time/clock.ts';
import { Appender } from './appender.ts';
import type { BatchCodec } from './batch.ts';
import type { PartitionLog } from './partition-log.ts';
import type { PublishCommand, PublishedRecords } from './publish.ts';
import { Reader } from './reader.ts';
import { route } from './request.ts';
import { SegmentKeeper } from './segment-keeper.ts';
import type { LogStore, RecordPlace, TopicRow } from './store.ts';
import { TailCache } from './tail-cache.ts';
import { Topic, topicNotFound } from './topic.ts';

export interface LogDeps {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly codec: BatchCodec;
  readonly limits: Pick<TunableLimits, 'publishQueueBytesMax' | 'tailCacheBytesMax'>;
  /** A write was refused because another broker has taken over. */
  readonly onFenced: () => void;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
}

/** One transaction: more would keep its partitions locked, and its publishers waiting, for longer than it saves. */
const transactionBytesMax = 4 * 1_048_576;
const transactionRecordsMax = 20_000;
const sharedBytesMin = 131_072;
const passedMax = 2_000;
const readCacheBytesMax = 16 * 1_048_576;
/** How many topics are asked for their ends at once when the log is opened. */
const opensAtOnce = 8;
const refreshRetryMs = 250;
const ringIntervalMs = 5_000;

/** The log of all topics: publishes go in, partitions are read. */
export class Log {
  readonly #d: LogDeps;
  readonly #byName = new Map<string, Topic>();
  readonly #byId = new Map<number, Topic>();
  readonly #adding = new Map<number, Promise<void>>();
  readonly #tails: TailCache;
  readonly #reader: Reader;
  readonly #appender: Appender;
  readonly #segments: SegmentKeeper;
  #cancelRing: (() => void) | null = null;
  /** Why nothing is taken any more. */
  #closed: Error | null = null;
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
    this.#segments = new SegmentKeeper(store, clock, deps.log, (topic, work) => this.#appender.whileQuiet(topic, work));
    this.#appender = new Appender({
      store,
      clock,
      tails: this.#tails,
      limits: {
        bytesMax: deps.limits.publishQueueBytesMax,
        transactionBytesMax,
        transactionRecordsMax,
        sharedBytesMin,
        passedMax,
        batchBytesMax: limits.storedBatchBytesMax,
        batchRecordsMax: limits.publishRecordsMax,
      },
      onFenced: deps.onFenced,
      onAppended: (topic, bytes) => {
        this.#segments.appended(topic, bytes);
      },
      onForgotten: (topic) => {
        this.#refresh(topic);
      },
    });
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
    let adding = this.#adding.get(row.id);
    if (adding === undefined) {
      adding = this.#add(row).finally(() => this.#adding.delete(row.id));
      this.#adding.set(row.id, adding);
    }
    return adding;
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
    this.#appender.removeTopic(topic);
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

  /**
   * Queues the records and answers where they went once they are durable; with ack mode NONE at once, with null.
   *
   * @throws Rejection or Fault
   */
  publish(command: PublishCommand): Promise<PublishedRecords | null> {
    const { stream } = command;
    try {
      if (stream?.refused !== undefined) throw stream.refused;
      // It would be refused in its turn; with ack mode NONE it must not be answered as queued.
      if (stream !== null && stream.failure !== null) throw stream.failure;
      return this.#enqueue(command);
    } catch (thrown) {
      const refused = thrown as Error;
      if (stream !== null) stream.refused = refused;
      return Promise.reject(refused);
    }
  }

  /** Begins what happens from time to time. */
  start(): void {
    this.#segments.start(() => this.#byId.values());
    this.#armRing();
  }

  /** Takes nothing new, and resolves when everything that was taken is answered. */
  async drain(): Promise<void> {
    this.#closed ??= new Rejection(
      'DRAINING',
      'this broker is shutting down: publish again, which reaches the next one',
    );
    await this.#appender.idle();
    this.#stopTimers();
  }

  /** Ends all work at once: another broker owns the log. */
  stop(): void {
    this.#closed = new Fault('FENCED', 'another broker has taken over');
    this.#appender.stop(this.#closed);
    this.#stopTimers();
  }

  /** For /metrics. */
  stats() {
    const { queue, appends, appendedRecords, appendedBytes } = this.#appender;
    return {
      topics: this.#byId.size,
      queuedRecords: queue.records,
      queuedBytes: queue.bytes,
      tailCacheBytes: this.#tails.bytes,
      readCacheBytes: this.#reader.bytes,
      appends,
      appendedRecords,
      appendedBytes,
    };
  }

  #enqueue(command: PublishCommand): Promise<PublishedRecords | null> {
    if (this.#closed !== null) throw this.#closed;
    const topic = this.#byName.get(command.topic);
    if (topic === undefined) throw topicNotFound(command.topic);
    const routed = route(topic, command);
    if (!this.#appender.queue.hasRoom(routed.bytes)) throw this.#queueFull();
    const answer = new Promise<PublishedRecords>((resolve, reject) => {
      this.#appender.push({ topic, command, ...routed, resolve, reject });
    });
    if (command.committed) return answer;
    answer.catch(() => undefined);
    return Promise.resolve(null);
  }

  #queueFull(): Rejection {
    const { publishQueueBytesMax } = this.#d.limits;
    return new Rejection(
      'PUBLISH_QUEUE_FULL',
      `more than ${publishQueueBytesMax} bytes wait for their append (--publish-queue-bytes-max): publish more slowly`,
      { metadata: { publishQueueBytesMax: String(publishQueueBytesMax) } },
    );
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

  /** Until it succeeds: readers of these logs wait for their ends too. */
  #refresh(topic: Topic): void {
    if (topic.removed || this.#closed !== null) return;
    topic.refresh().catch(() => {
      this.#d.clock.after(refreshRetryMs, () => {
        if (!topic.isKnown) this.#refresh(topic);
      });
    });
  }

  #armRing(): void {
    this.#cancelRing = this.#d.clock.after(ringIntervalMs, () => {
      void this.#turnRing();
    });
  }

  async #turnRing(): Promise<void> {
    try {
      await this.#d.store.turnIdempotencyRing();
    } catch (error) {
      this.#d.log.warn({ err: error }, 'old idempotency keys could not be dropped; it is tried again');
    }
    if (this.#closed === null) this.#armRing();
  }

  #stopTimers(): void {
    this.#cancelRing?.();
    this.#segments.stop();
  }
}
