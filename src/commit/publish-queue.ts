import type { PendingPublish } from './route.ts';
import type { Topic } from '../log/topic.ts';

export interface QueueLimits {
  readonly bytesMax: number;
  /** One transaction. */
  readonly transactionBytesMax: number;
  readonly transactionRecordsMax: number;
  /** Less than this is not shared out among connections: a transaction costs as much as appending this. */
  readonly sharedBytesMin: number;
  /** Requests that one look passes over because something in front of them is in flight. */
  readonly passedMax: number;
}

/**
 * Publishes that wait for their append, in the order in which they came. What is taken for a transaction conflicts with nothing in
 * flight and overtakes nothing that it conflicts with: two requests conflict if they touch the same partition, come by
 * the same stream, or belong to a topic and both have idempotency keys.
 */
export class PublishQueue {
  readonly #limits: QueueLimits;
  #waiting: Waiting[] = [];
  #bytes = 0;
  #records = 0;
  /** What transactions in flight touch. */
  readonly #busy = new Set<object>();
  readonly #held = new Set<Topic>();

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get records(): number {
    return this.#records;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Whether so much more may wait. */
  hasRoom(bytes: number): boolean {
    return this.#bytes + bytes <= this.#limits.bytesMax;
  }

  push(request: PendingPublish): void {
    this.#waiting.push({ request, conflicts: conflictsOf(request) });
    this.#bytes += request.bytes;
    this.#records += request.command.records.count;
  }

  /**
   * Takes requests for one transaction; what they touch is busy until `release`. With `freeSlots` connections to share them it takes its
   * part, if that is enough for a transaction: else whatever was answered together would come back together, and one
   * connection would do all the work (batches of 100 KiB, 8 in flight: a fifth less).
   */
  take(freeSlots = 1): PendingPublish[] {
    const { transactionRecordsMax, passedMax } = this.#limits;
    const transactionBytesMax = this.#transactionBytesMax(freeSlots);
    const taken: PendingPublish[] = [];
    const passed: Waiting[] = [];
    const blocked = new Set(this.#busy);
    let bytes = 0;
    let records = 0;
    let at = 0;
    for (; at < this.#waiting.length && passed.length < passedMax; at++) {
      const waiting = this.#waiting[at]!;
      const { request, conflicts } = waiting;
      if (this.#held.has(request.topic) || touches(conflicts, blocked)) {
        // Nothing that comes later may overtake it.
        block(conflicts, blocked);
        passed.push(waiting);
        continue;
      }
      if (taken.length > 0 && (bytes + request.bytes > transactionBytesMax || records >= transactionRecordsMax)) break;
      taken.push(request);
      block(conflicts, this.#busy);
      bytes += request.bytes;
      records += request.command.records.count;
    }
    if (taken.length === 0) return taken;
    this.#waiting = passed.length === 0 ? this.#waiting.slice(at) : passed.concat(this.#waiting.slice(at));
    this.#bytes -= bytes;
    this.#records -= records;
    return taken;
  }

  #transactionBytesMax(freeSlots: number): number {
    const { transactionBytesMax, sharedBytesMin } = this.#limits;
    return Math.min(transactionBytesMax, Math.max(sharedBytesMin, Math.ceil(this.#bytes / freeSlots)));
  }

  /** A transaction has ended. */
  release(requests: readonly PendingPublish[]): void {
    for (const request of requests) for (const one of conflictsOf(request)) this.#busy.delete(one);
  }

  /** Nothing of the topic is taken until `unhold`. */
  hold(topic: Topic): void {
    this.#held.add(topic);
  }

  unhold(topic: Topic): void {
    this.#held.delete(topic);
  }

  /** Takes out everything that `wanted` says. */
  remove(wanted: (request: PendingPublish) => boolean): PendingPublish[] {
    const removed = this.#waiting.map(({ request }) => request).filter(wanted);
    if (removed.length === 0) return removed;
    this.#waiting = this.#waiting.filter(({ request }) => !wanted(request));
    for (const request of removed) {
      this.#bytes -= request.bytes;
      this.#records -= request.command.records.count;
    }
    return removed;
  }
}

/** A request that waits, with what it must have to itself. */
interface Waiting {
  readonly request: PendingPublish;
  readonly conflicts: readonly object[];
}

function touches(conflicts: readonly object[], blocked: ReadonlySet<object>): boolean {
  if (blocked.size === 0) return false;
  for (const one of conflicts) if (blocked.has(one)) return true;
  return false;
}

function block(conflicts: readonly object[], blocked: Set<object>): void {
  for (const one of conflicts) blocked.add(one);
}

/** What a request must have to itself: its partitions, its stream, and the keys of its topic if it has any. */
function conflictsOf({ shares, command, topic }: PendingPublish): object[] {
  const conflicts: object[] = [];
  for (const { partition } of shares) conflicts.push(partition);
  if (command.stream !== null) conflicts.push(command.stream);
  if (command.idempotencyKeys !== null) conflicts.push(topic.keys);
  return conflicts;
}
