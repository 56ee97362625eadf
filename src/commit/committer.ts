import { present } from '../errors/present.ts';
import { Fault } from '../errors/fault.ts';
import type { Log } from '../log/log.ts';
import { topicNotFound } from '../errors/rejections/topics.ts';
import type { Topic } from '../log/topic.ts';
import { LatencyHistogram } from '../metrics/latency-histogram.ts';
import { Backoff } from '../time/backoff.ts';
import type { Clock, Random } from '../time/clock.ts';
import type { AckRing, AckTableReference } from './ack-ring.ts';
import { isUnknown, lostBefore, mayBeWritten, unwritten } from './outcome.ts';
import { isPrepared, noKeys, prepare, topicsOf, type FoundKeys } from './preparation.ts';
import { PublishQueue, type QueueLimits } from './publish-queue.ts';
import type { QueueRoom } from './queue-room.ts';
import { SegmentMoved, type AppendedBatch, type CommitStore } from './store.ts';
import { TransactionPlan, type PlanLimits } from './transaction-plan.ts';
import type { CommitUnit } from './unit.ts';

interface CommitterOptions {
  readonly store: CommitStore;
  readonly log: Log;
  readonly ring: AckRing;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: QueueLimits & PlanLimits;
  readonly room: QueueRoom;
  readonly onFenced: () => void;
}

/** How often an append follows a moved segment before it fails. */
const segmentMovesMax = 5;

/**
 * Commits units (SPEC.md beside this). Each free write connection gets one transaction with the
 * waiting units that conflict with nothing in flight. Group commit needs no timer, because new
 * units gather while a transaction is in flight.
 */
export class Committer {
  readonly #o: CommitterOptions;
  readonly #queue: PublishQueue;
  readonly #freeSlots: number[];
  #scheduled = false;
  #stopped = false;
  /** While the broker drains, an outcome that one try cannot find is left to the successor. */
  #finishing = false;
  /** Ends the pauses between tries. */
  readonly #ending = new AbortController();
  /** The number of transactions in flight for each topic. */
  readonly #inFlight = new Map<Topic, number>();
  /** Called when the last transaction of the topic has ended. */
  readonly #onQuiet = new Map<Topic, () => void>();
  /** Several, because `finish` may be called twice. */
  readonly #onIdle: (() => void)[] = [];
  appends = 0;
  appendedRecords = 0;
  appendedBytes = 0;
  /** Transactions, from their first byte to the answer of the database. */
  readonly commitTimes = new LatencyHistogram();

  constructor(options: CommitterOptions) {
    this.#o = options;
    this.#queue = new PublishQueue(options.limits, options.room);
    this.#freeSlots = Array.from({ length: options.store.appendSlots }, (_, slot) => slot);
  }

  get queue(): PublishQueue {
    return this.#queue;
  }

  /** @returns whether there is room for the unit in the queue. */
  push(unit: CommitUnit): boolean {
    if (!this.#queue.push(unit)) return false;
    this.#schedule();
    return true;
  }

  /** Resolves when no unit waits or is in flight. */
  finish(): Promise<void> {
    this.#finishing = true;
    this.#ending.abort();
    if (this.#isIdle) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle.push(resolve);
    });
  }

  /**
   * Runs `work` while no append to the topic is in flight. New appends wait until it ends. A roll
   * uses it, because otherwise each append would fail once with `SegmentMoved`, and PostgreSQL
   * would log an error for each.
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

  /** Fails all waiting units with the error. No transaction begins after this. */
  stop(error: Error): void {
    this.#stopped = true;
    this.#ending.abort();
    fail(
      this.#queue.remove(() => true),
      error,
    );
  }

  removeTopic(topic: Topic): void {
    fail(
      this.#queue.remove(({ publishes }) => publishes.some((publish) => publish.topic === topic)),
      topicNotFound({ topic: topic.row.name }),
    );
  }

  get #isIdle(): boolean {
    return this.#queue.isEmpty && this.#freeSlots.length === this.#o.store.appendSlots;
  }

  #schedule(): void {
    if (this.#scheduled || this.#freeSlots.length === 0) return;
    this.#scheduled = true;
    // Units that arrive in the same turn of the event loop share a transaction.
    this.#o.clock.soon(() => {
      this.#scheduled = false;
      this.#begin();
    });
  }

  #begin(): void {
    while (this.#freeSlots.length > 0 && !this.#stopped) {
      const units = this.#queue.take(this.#freeSlots.length);
      if (units.length === 0) break;
      void this.#run(present(this.#freeSlots.pop(), 'a transaction begins on a free slot'), units);
    }
    if (this.#isIdle) for (const resolve of this.#onIdle.splice(0)) resolve();
  }

  async #run(slot: number, units: readonly CommitUnit[]): Promise<void> {
    const topics = topicsOf(units);
    for (const topic of topics) this.#inFlight.set(topic, (this.#inFlight.get(topic) ?? 0) + 1);
    try {
      await this.#append(slot, units);
    } catch (error) {
      fail(units, error as Error);
    }
    this.#queue.release(units);
    this.#freeSlots.push(slot);
    for (const topic of topics) this.#ended(topic);
    // The next transaction begins in this turn of the event loop, so that the connection is not
    // idle.
    this.#begin();
  }

  #ended(topic: Topic): void {
    const left = present(this.#inFlight.get(topic), 'a topic counts its transactions until they end') - 1;
    if (left > 0) {
      this.#inFlight.set(topic, left);
      return;
    }
    this.#inFlight.delete(topic);
    this.#onQuiet.get(topic)?.();
    this.#onQuiet.delete(topic);
  }

  /**
   * Commits the units in one transaction, or one by one if the database refuses the data of one.
   */
  async #append(slot: number, units: readonly CommitUnit[]): Promise<void> {
    const wanted = units.filter(isWanted);
    const known = isPrepared(wanted) ? noKeys : await unwritten(() => this.#prepare(wanted));
    try {
      await this.#commit(slot, wanted, known);
    } catch (error) {
      if (error instanceof Fault && error.kind === 'DATA_REFUSED' && wanted.length > 1) {
        for (const unit of wanted) await this.#run1(slot, unit);
        return;
      }
      this.#lost(wanted, error);
      throw error;
    }
  }

  /** @throws Fault */
  #prepare(units: readonly CommitUnit[]): Promise<FoundKeys> {
    return prepare(units, this.#o.store, this.#o.clock.nowMs());
  }

  async #run1(slot: number, unit: CommitUnit): Promise<void> {
    try {
      await this.#append(slot, [unit]);
    } catch (error) {
      fail([unit], error as Error);
    }
  }

  async #commit(slot: number, units: readonly CommitUnit[], known: FoundKeys): Promise<void> {
    for (let moves = 0; ; moves++) {
      const plan = this.#plan(units, known);
      try {
        await (plan.receipts.length === 0 ? this.#write(slot, plan) : this.#settle(slot, plan));
        return;
      } catch (error) {
        if (!(error instanceof SegmentMoved)) throw error;
        // This fault shows publishers that nothing was written, so that they may retry.
        if (moves === segmentMovesMax) throw new Fault('DATABASE_UNAVAILABLE', 'the segment moved at each try', error);
        await unwritten(() => this.#follow(plan.units));
      }
    }
  }

  async #write(slot: number, plan: TransactionPlan): Promise<void> {
    const transaction = plan.build(this.#o.ring.current);
    const isEmpty = transaction.batches.length === 0 && transaction.acks === null;
    if (isEmpty) {
      this.#committed(plan, []);
      return;
    }
    const begunMs = this.#o.clock.nowMs();
    const appended = await this.#o.store.append(slot, transaction);
    this.commitTimes.observe(this.#o.clock.nowMs() - begunMs);
    this.#committed(plan, appended);
  }

  /**
   * Writes a plan with settlements. It holds a reference to its ack table until memory has moved.
   */
  async #settle(slot: number, plan: TransactionPlan): Promise<void> {
    const reference = this.#o.ring.refer();
    try {
      await this.#write(slot, plan);
    } catch (error) {
      if (!isUnknown(error)) {
        reference.release();
        throw error;
      }
      // If the outcome stays unknown, so does the reference, because the successor needs the table.
      const isWritten = await this.#findOut(plan, reference, error);
      if (isWritten) await this.#recover(plan);
      reference.release();
      if (!isWritten) throw lostBefore(error);
      return;
    }
    reference.release();
  }

  /** Looks for the receipt until the database answers. @throws Fault if the broker ends before */
  async #findOut(plan: TransactionPlan, { table }: AckTableReference, unknown: Error): Promise<boolean> {
    const receipt = present(plan.receipts[0], 'a plan with settlements has a receipt');
    return this.#untilAnswered(unknown, () => this.#o.store.hasReceipt(table, receipt));
  }

  /**
   * Updates memory after a commit whose answer was lost. Its records are the last of their logs,
   * because no other append could use their partitions, so the ends of the logs give the offsets.
   */
  async #recover(plan: TransactionPlan): Promise<void> {
    this.#forget(plan.units);
    for (const topic of topicsOf(plan.units)) {
      if (!topic.removed)
        await this.#untilAnswered(new Fault('OUTCOME_UNKNOWN', 'it is committed'), () => topic.refresh());
    }
    this.#tell(plan.settle(plan.lastOfLogs()));
  }

  async #untilAnswered<T>(unknown: Error, ask: () => Promise<T>): Promise<T> {
    for (const backoff = new Backoff(this.#o.clock, this.#o.random); ; await backoff.pause(this.#ending.signal)) {
      if (this.#stopped) throw unknown;
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof Fault) || error.kind === 'FENCED') throw error;
        if (this.#finishing) throw unknown;
      }
    }
  }

  #plan(units: readonly CommitUnit[], known: FoundKeys): TransactionPlan {
    const nowMs = this.#o.clock.nowMs();
    const plan = new TransactionPlan(this.#o.limits, (topic, key) => {
      return topic.keys.find(key, topic.row.idempotencyWindowMs, nowMs) ?? known.get(topic)?.get(key) ?? null;
    });
    for (const unit of units) {
      if (!isWanted(unit)) continue;
      const refusal = plan.add(unit);
      if (refusal !== null) fail([unit], refusal);
    }
    return plan;
  }

  async #follow(units: readonly CommitUnit[]): Promise<void> {
    for (const topic of topicsOf(units)) {
      if (!topic.removed) await topic.followSegment();
    }
  }

  /** Updates memory after the commit, then answers the publishers, then notifies the readers. */
  #committed(plan: TransactionPlan, appended: readonly AppendedBatch[]): void {
    const settled = plan.settle(appended);
    for (const { topic, partition, batches } of settled.logs) {
      for (const { baseOffset, appendTimeUs, records, recordCount, byteSize } of batches) {
        partition.committed({ baseOffset, appendTimeUs, records }, recordCount, byteSize);
        this.appendedRecords += recordCount;
        this.appendedBytes += byteSize;
        this.#o.log.appended(topic, byteSize);
      }
    }
    this.#tell(settled);
    if (settled.logs.length > 0) {
      this.appends++;
      this.#o.clock.soon(() => {
        this.#o.log.encodeTails();
      });
    }
  }

  #tell({ logs, keys, answers }: ReturnType<TransactionPlan['settle']>): void {
    const nowMs = this.#o.clock.nowMs();
    for (const { topic, key, hit } of keys) topic.keys.add(key, hit, nowMs);
    for (const { unit, published } of answers) {
      unit.ended = true;
      for (const { records } of unit.settlements) records.moved();
      unit.resolve(published);
    }
    for (const { partition } of logs) partition.announce();
  }

  #lost(units: readonly CommitUnit[], error: unknown): void {
    if (!(error instanceof Fault)) return;
    if (error.kind === 'FENCED') this.#o.onFenced();
    if (error.kind !== 'OUTCOME_UNKNOWN') return;
    this.#forget(units);
    for (const topic of topicsOf(units)) this.#o.log.refresh(topic);
  }

  /** Forgets the ends and the keys of the logs, because the outcome of an append is unknown. */
  #forget(units: readonly CommitUnit[]): void {
    const nowMs = this.#o.clock.nowMs();
    const publishes = units.flatMap((unit) => unit.publishes);
    for (const topic of topicsOf(units)) {
      const touched = publishes.filter((publish) => publish.topic === topic).flatMap(({ shares }) => shares);
      topic.forget(new Set(touched.map(({ partition }) => partition)), nowMs);
    }
  }
}

/** Whether the unit can still be committed. Fails the unit if it cannot. */
function isWanted(unit: CommitUnit): boolean {
  if (unit.ended) return false;
  for (const { command, topic } of unit.publishes) {
    const failure = command.stream?.failure ?? (topic.removed ? topicNotFound({ topic: topic.row.name }) : null);
    if (failure !== null) {
      fail([unit], failure);
      return false;
    }
  }
  return true;
}

/** Fails units, and with them the later requests of their streams. */
function fail(units: readonly CommitUnit[], error: Error): void {
  for (const unit of units) {
    if (unit.ended) continue;
    unit.ended = true;
    for (const { command } of unit.publishes) if (command.stream !== null) command.stream.failure ??= error;
    if (!mayBeWritten(error)) for (const { records } of unit.settlements) records.stays();
    unit.reject(error);
  }
}
