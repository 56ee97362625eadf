import { Fault } from '../errors/fault.ts';
import type { Clock } from '../time/clock.ts';
import { PublishQueue, type QueueLimits } from './publish-queue.ts';
import type { IdempotencyHit } from '../log/known-keys.ts';
import type { Log } from '../log/log.ts';
import { topicNotFound, type Topic } from '../log/topic.ts';
import type { PendingPublish } from './route.ts';
import { SegmentMoved, type CommitStore } from './store.ts';
import { TransactionPlan, type PlanLimits } from './transaction-plan.ts';

export interface CommitterOptions {
  readonly store: CommitStore;
  readonly log: Log;
  readonly clock: Clock;
  readonly limits: QueueLimits & PlanLimits;
  readonly onFenced: () => void;
}

/** How often an append follows a topic to its next segment before it gives up. */
const segmentMovesMax = 5;

/**
 * Appends what is published: a transaction on each free write connection, of everything that waits and conflicts with nothing in
 * flight. While a transaction is in flight the next ones gather; that is the whole of group commit, there is no timer in it.
 */
export class Committer {
  readonly #o: CommitterOptions;
  readonly #queue: PublishQueue;
  readonly #freeSlots: number[];
  #scheduled = false;
  #stopped = false;
  /** Transactions by topic, and who waits for the last of them. */
  readonly #inFlight = new Map<Topic, number>();
  readonly #onQuiet = new Map<Topic, () => void>();
  /** A shutdown may be asked for twice. */
  readonly #onIdle: (() => void)[] = [];
  appends = 0;
  appendedRecords = 0;
  appendedBytes = 0;

  constructor(options: CommitterOptions) {
    this.#o = options;
    this.#queue = new PublishQueue(options.limits);
    this.#freeSlots = Array.from({ length: options.store.appendSlots }, (_, slot) => slot);
  }

  get queue(): PublishQueue {
    return this.#queue;
  }

  push(request: PendingPublish): void {
    this.#queue.push(request);
    this.#schedule();
  }

  /** Resolves when nothing waits and nothing is in flight. */
  idle(): Promise<void> {
    if (this.#isIdle) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle.push(resolve);
    });
  }

  /**
   * Does `work` while no append of the topic is in flight; those that come meanwhile wait. A segment that moved under appends
   * would be followed too (`SegmentMoved`), but each would fail once first, and the server would log that as an error.
   */
  async whileQuiet<T>(topic: Topic, work: () => Promise<T>): Promise<T> {
    this.#queue.hold(topic);
    try {
      if (this.#inFlight.has(topic)) {
        await new Promise<void>((resolve) => {
          this.#onQuiet.set(topic, resolve);
        });
      }
      return await work();
    } finally {
      this.#queue.unhold(topic);
      this.#schedule();
    }
  }

  /** Answers everything that waits with the error; nothing is appended any more. */
  stop(error: Error): void {
    this.#stopped = true;
    for (const request of this.#queue.remove(() => true)) request.reject(error);
  }

  removeTopic(topic: Topic): void {
    for (const request of this.#queue.remove((one) => one.topic === topic)) {
      request.reject(topicNotFound(topic.row.name));
    }
  }

  get #isIdle(): boolean {
    return this.#queue.isEmpty && this.#freeSlots.length === this.#o.store.appendSlots;
  }

  #schedule(): void {
    if (this.#scheduled || this.#freeSlots.length === 0) return;
    this.#scheduled = true;
    // Whatever arrives in this turn of the event loop goes together.
    this.#o.clock.soon(() => {
      this.#scheduled = false;
      this.#begin();
    });
  }

  #begin(): void {
    while (this.#freeSlots.length > 0 && !this.#stopped) {
      const requests = this.#queue.take(this.#freeSlots.length);
      if (requests.length === 0) break;
      void this.#run(this.#freeSlots.pop()!, requests);
    }
    if (this.#isIdle) for (const resolve of this.#onIdle.splice(0)) resolve();
  }

  async #run(slot: number, requests: readonly PendingPublish[]): Promise<void> {
    const topics = new Set(requests.map(({ topic }) => topic));
    for (const topic of topics) this.#inFlight.set(topic, (this.#inFlight.get(topic) ?? 0) + 1);
    try {
      await this.#append(slot, requests);
    } catch (error) {
      fail(requests, error as Error);
    }
    this.#queue.release(requests);
    this.#freeSlots.push(slot);
    for (const topic of topics) this.#ended(topic);
    // At once, not in the next turn: the connection would lie idle for it.
    this.#begin();
  }

  #ended(topic: Topic): void {
    const left = this.#inFlight.get(topic)! - 1;
    if (left > 0) {
      this.#inFlight.set(topic, left);
      return;
    }
    this.#inFlight.delete(topic);
    this.#onQuiet.get(topic)?.();
    this.#onQuiet.delete(topic);
  }

  /** Appends the requests as one transaction; where the data of one of them is refused, each by itself. */
  async #append(slot: number, requests: readonly PendingPublish[]): Promise<void> {
    const wanted = requests.filter(isWanted);
    for (const topic of new Set(wanted.map((request) => request.topic))) if (!topic.isKnown) await topic.refresh();
    const known = await this.#lookUpKeys(wanted);
    try {
      await this.#commit(slot, wanted, known);
    } catch (error) {
      if (error instanceof Fault && error.kind === 'DATA_REFUSED' && wanted.length > 1) {
        for (const request of wanted) await this.#run1(slot, request);
        return;
      }
      this.#lost(wanted, error);
      throw error;
    }
  }

  async #run1(slot: number, request: PendingPublish): Promise<void> {
    try {
      await this.#append(slot, [request]);
    } catch (error) {
      fail([request], error as Error);
    }
  }

  async #commit(
    slot: number,
    requests: readonly PendingPublish[],
    known: ReadonlyMap<Topic, ReadonlyMap<string, IdempotencyHit>>,
  ): Promise<void> {
    for (let moves = 0; ; moves++) {
      const plan = this.#plan(requests, known);
      const transaction = plan.build();
      try {
        const appended = transaction.batches.length === 0 ? [] : await this.#o.store.append(slot, transaction);
        this.#committed(plan, appended);
        return;
      } catch (error) {
        if (!(error instanceof SegmentMoved)) throw error;
        // A SegmentMoved says nothing to a publisher; that nothing was written and it may try again does.
        if (moves === segmentMovesMax) throw new Fault('DATABASE_UNAVAILABLE', 'the segment moved at each try', error);
        await this.#follow(plan.requests);
      }
    }
  }

  #plan(
    requests: readonly PendingPublish[],
    known: ReadonlyMap<Topic, ReadonlyMap<string, IdempotencyHit>>,
  ): TransactionPlan {
    const nowMs = this.#o.clock.nowMs();
    const plan = new TransactionPlan(this.#o.limits, (topic, key) => {
      return topic.keys.find(key, topic.row.idempotencyWindowMs, nowMs) ?? known.get(topic)?.get(key) ?? null;
    });
    for (const request of requests) {
      if (!isWanted(request)) continue;
      const refusal = plan.add(request);
      if (refusal !== null) fail([request], refusal);
    }
    return plan;
  }

  /** Asks the database for keys that memory neither knows nor knows to be new. */
  async #lookUpKeys(
    requests: readonly PendingPublish[],
  ): Promise<ReadonlyMap<Topic, ReadonlyMap<string, IdempotencyHit>>> {
    const nowMs = this.#o.clock.nowMs();
    const unknown = new Map<Topic, Set<string>>();
    for (const { topic, command } of requests) {
      const { idempotencyWindowMs } = topic.row;
      if (command.idempotencyKeys === null || topic.keys.isComplete(idempotencyWindowMs, nowMs)) continue;
      for (const key of command.idempotencyKeys) {
        if (key === null || topic.keys.find(key, idempotencyWindowMs, nowMs) !== null) continue;
        const keys = unknown.get(topic);
        if (keys === undefined) unknown.set(topic, new Set([key]));
        else keys.add(key);
      }
    }
    const found = Array.from(unknown, async ([topic, keys]) => {
      return [topic, await this.#o.store.findKeys(topic.row.id, topic.row.idempotencyWindowMs, [...keys])] as const;
    });
    return new Map(await Promise.all(found));
  }

  async #follow(requests: readonly PendingPublish[]): Promise<void> {
    for (const topic of new Set(requests.map((request) => request.topic))) {
      if (!topic.removed) await topic.followSegment();
    }
  }

  /** Everything here is durable: memory follows, then the publishers hear of it, then the readers. */
  #committed(plan: TransactionPlan, appended: Parameters<TransactionPlan['settle']>[0]): void {
    const { logs, keys, answers } = plan.settle(appended);
    const nowMs = this.#o.clock.nowMs();
    for (const { topic, partition, batches } of logs) {
      for (const { baseOffset, appendTimeUs, records, recordCount, byteSize } of batches) {
        partition.committed({ baseOffset, appendTimeUs, records }, recordCount, byteSize);
        this.appendedRecords += recordCount;
        this.appendedBytes += byteSize;
        this.#o.log.appended(topic, byteSize);
      }
    }
    for (const { topic, key, hit } of keys) topic.keys.add(key, hit, nowMs);
    for (const { request, published } of answers) request.resolve(published);
    for (const { partition } of logs) partition.announce();
    if (logs.length > 0) {
      this.appends++;
      this.#o.clock.soon(() => {
        this.#o.log.encodeTails();
      });
    }
  }

  #lost(requests: readonly PendingPublish[], error: unknown): void {
    if (!(error instanceof Fault)) return;
    if (error.kind === 'FENCED') this.#o.onFenced();
    if (error.kind !== 'OUTCOME_UNKNOWN') return;
    const nowMs = this.#o.clock.nowMs();
    for (const topic of new Set(requests.map((request) => request.topic))) {
      const touched = requests.filter((request) => request.topic === topic).flatMap(({ shares }) => shares);
      topic.forget(new Set(touched.map(({ partition }) => partition)), nowMs);
      this.#o.log.refresh(topic);
    }
  }
}

/** Whether the request may still be appended; if not, it is answered here. */
function isWanted(request: PendingPublish): boolean {
  const failure = request.command.stream?.failure ?? null;
  if (failure !== null) request.reject(failure);
  else if (request.topic.removed) fail([request], topicNotFound(request.topic.row.name));
  else return true;
  return false;
}

/** Answers requests with an error; what their streams sent after them is not appended. */
function fail(requests: readonly PendingPublish[], error: Error): void {
  for (const { command, reject } of requests) {
    if (command.stream !== null) command.stream.failure ??= error;
    reject(error);
  }
}
