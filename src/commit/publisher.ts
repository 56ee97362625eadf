import type { Account } from '../account/account.ts';
import { present } from '../errors/present.ts';
import { Fault } from '../errors/fault.ts';
import { draining } from '../errors/rejections/broker.ts';
import { noSubscriptions } from '../errors/rejections/publishing.ts';
import { topicNotFound } from '../errors/rejections/topics.ts';
import { limits } from '../limits/limits.ts';
import type { WriteTrouble } from '../errors/write-trouble.ts';
import type { Log } from '../log/log.ts';
import type { Topic } from '../log/topic.ts';
import { LatencyHistogram } from '../metrics/latency-histogram.ts';
import { jobStopMsMax, type BackgroundJob } from '../time/background-job.ts';
import type { Clock, Random } from '../time/clock.ts';
import { Every } from '../time/every.ts';
import { within } from '../time/within.ts';
import type { AckRing } from './ack-ring.ts';
import { Committer } from './committer.ts';
import type { PublishCommand, PublishedRecords } from './publish.ts';
import { nothingQueued, QueueRoom } from './queue-room.ts';
import { queuedSize, route, type RoutedPublish } from './route.ts';
import type { CommitStore } from './store.ts';
import { noSettlements, type Commits, type WantedCommit } from './unit.ts';

interface PublisherDeps {
  readonly store: CommitStore;
  readonly log: Log;
  readonly ring: AckRing;
  readonly clock: Clock;
  readonly random: Random;
  readonly account: Account;
  /** Whether the database takes writes. Default: it does. */
  readonly writes?: Pick<WriteTrouble, 'refuse'>;
  /** Called when a write was fenced because another broker has taken over. */
  readonly onFenced: () => void;
  readonly warn: (fields: object, message: string) => void;
}

/**
 * Larger transactions would lock their partitions, and delay their publishers, for more time than
 * they save.
 */
const transactionBytesMax = 4 * 1_048_576;
const transactionRecordsMax = 20_000;
const sharedBytesMin = 131_072;
const passedMax = 2_000;
const ringIntervalMs = 5_000;

/** Checks, routes and queues the records of clients, and the commits of the broker itself. */
export class Publisher implements Commits, BackgroundJob {
  readonly #d: PublisherDeps;
  readonly #room: QueueRoom;
  readonly #committer: Committer;
  readonly #keys: Every;
  readonly #publishTimes = new LatencyHistogram();
  /** The error for new publishes after a drain or a stop; null before. */
  #closed: Error | null = null;

  constructor(deps: PublisherDeps) {
    this.#d = deps;
    this.#room = new QueueRoom(deps.account);
    const { store, log, ring, clock, random, onFenced } = deps;
    this.#committer = new Committer({
      store,
      log,
      ring,
      clock,
      random,
      room: this.#room,
      limits: {
        transactionBytesMax,
        transactionRecordsMax,
        sharedBytesMin,
        passedMax,
        batchBytesMax: limits.storedBatchBytesMax,
        batchRecordsMax: limits.publishRecordsMax,
      },
      onFenced,
    });
    log.attach(this.#committer);
    this.#keys = new Every({
      clock,
      delayMs: ringIntervalMs,
      run: () => store.turnIdempotencyRing(),
      onError: (error) => {
        deps.warn({ err: error }, 'old idempotency keys could not be dropped; it will be retried');
      },
    });
  }

  /**
   * Queues the records. Resolves with their offsets when they are durable; with ack mode NONE,
   * resolves with null at once.
   * @throws Rejection or Fault
   */
  publish(command: PublishCommand): Promise<PublishedRecords | null> {
    const { stream } = command;
    try {
      if (stream?.refused !== undefined) throw stream.refused;
      // The committer would fail it anyway, but ack mode NONE would have been answered as queued.
      if (stream !== null && stream.failure !== null) throw stream.failure;
      return this.#enqueue(command);
    } catch (thrown) {
      const refused = thrown as Error;
      if (stream !== null) stream.refused = refused;
      return Promise.reject(refused);
    }
  }

  /**
   * Commits publishes and settlements of the broker itself as one unit. A full queue or a drain
   * does not reject it.
   */
  commit({ publishes, settlements }: WantedCommit): Promise<readonly PublishedRecords[]> {
    let routed: RoutedPublish[];
    try {
      if (this.#closed instanceof Fault) throw this.#closed;
      routed = publishes.map((command) => this.#route(command));
    } catch (thrown) {
      const refused = thrown as Error;
      if (!(refused instanceof Fault)) for (const { records } of settlements) records.stays();
      return Promise.reject(refused);
    }
    return new Promise((resolve, reject) => {
      this.#committer.push({
        publishes: routed,
        settlements,
        receipt: settlements.length === 0 ? null : this.#d.random.uuid(),
        own: true,
        bytes: routed.reduce((sum, { bytes }) => sum + bytes, 0),
        queued: nothingQueued,
        records: routed.reduce((sum, { command }) => sum + command.records.count, 0),
        resolve,
        reject,
        ended: false,
      });
    });
  }

  /** Starts the background work. */
  start(): void {
    this.#keys.start();
  }

  /** Rejects new publishes, and resolves when all queued ones are answered. */
  async drain(): Promise<void> {
    this.#closed ??= draining('publish');
    await this.#committer.finish();
    await within(this.#d.clock, jobStopMsMax, this.#keys.stop());
  }

  /** Ends all work at once, because another broker owns the log. */
  stop(): Promise<void> {
    this.#closed = new Fault('FENCED', 'another broker has taken over');
    this.#committer.stop(this.#closed);
    return this.#keys.stop();
  }

  /** For /metrics. */
  stats() {
    const { queue, appends, appendedRecords, appendedBytes } = this.#committer;
    return { queuedRecords: queue.records, queuedBytes: queue.bytes, appends, appendedRecords, appendedBytes };
  }

  /** Publishes from their arrival until they are durable, and transactions. */
  get times(): { readonly publish: LatencyHistogram; readonly commit: LatencyHistogram } {
    return { publish: this.#publishTimes, commit: this.#committer.commitTimes };
  }

  #enqueue(command: PublishCommand): Promise<PublishedRecords | null> {
    if (this.#closed !== null) throw this.#closed;
    this.#d.writes?.refuse();
    const routed = this.#route(command);
    refuseUnsubscribed(routed.topic);
    const { promise: answer, resolve, reject } = Promise.withResolvers<PublishedRecords>();
    const { clock } = this.#d;
    const begunMs = clock.nowMs();
    const isQueued = this.#committer.push({
      publishes: [routed],
      settlements: noSettlements,
      receipt: null,
      own: false,
      bytes: routed.bytes,
      queued: queuedSize(routed),
      records: command.records.count,
      resolve: ([published]) => {
        this.#publishTimes.observe(clock.nowMs() - begunMs);
        resolve(present(published, 'a unit of one publish gets one answer'));
      },
      reject,
      ended: false,
    });
    if (!isQueued) throw this.#room.refusal();
    if (command.committed) return answer;
    answer.catch(() => undefined);
    return Promise.resolve(null);
  }

  #route(command: PublishCommand): RoutedPublish {
    const topic = this.#d.log.topicAtWork(command.topic);
    if (topic === undefined) throw topicNotFound({ topic: command.topic });
    return route(topic, command);
  }
}

/** A repeat of records that are stored is refused too, because nobody would get them. */
function refuseUnsubscribed({ row: { name, retention }, live }: Topic): void {
  if (retention.keepUnsubscribedMs === null && live === 0) throw noSubscriptions({ topic: name });
}
