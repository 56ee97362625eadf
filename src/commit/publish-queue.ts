import type { Topic } from '../log/topic.ts';
import type { QueueRoom } from './queue-room.ts';
import type { CommitUnit } from './unit.ts';
import { present } from '../errors/present.ts';

export interface QueueLimits {
  /** Bytes of one transaction. */
  readonly transactionBytesMax: number;
  readonly transactionRecordsMax: number;
  /**
   * Fewer bytes are not split among connections, because a transaction costs as much as appending
   * them.
   */
  readonly sharedBytesMin: number;
  /** One `take` stops its search after it has passed over this many conflicting units. */
  readonly passedMax: number;
}

/**
 * Units that wait for their commit, in the order of arrival. A unit that is taken for a transaction
 * conflicts with no unit in flight, and overtakes no unit that it conflicts with. Two units
 * conflict if they use the same partition or the same stream, or if both have idempotency keys of
 * one topic. Settlements never conflict, because their rows may be written in any order.
 *
 * A publisher's unit is in the account of memory from `push` to the end of its transaction. The
 * broker's own units are not, so that neither can keep the other out of the queue.
 */
export class PublishQueue {
  readonly #limits: QueueLimits;
  readonly #room: QueueRoom;
  #waiting: Waiting[] = [];
  #bytes = 0;
  #records = 0;
  /** The partitions, streams and key caches that transactions in flight use. */
  readonly #busy = new Set<object>();
  readonly #held = new Set<Topic>();

  constructor(limits: QueueLimits, room: QueueRoom) {
    this.#limits = limits;
    this.#room = room;
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

  /** @returns whether there is room for the unit. */
  push(unit: CommitUnit): boolean {
    if (!unit.own && !this.#room.take(unit.queued)) return false;
    this.#waiting.push({ unit, conflicts: conflictsOf(unit) });
    this.#count(unit, 1);
    return true;
  }

  /**
   * Takes units for one transaction; units that conflict with them wait until `release`. It takes
   * one of `freeSlots` shares of the bytes. Otherwise publishers that are answered together come
   * back together, on one connection, which costs a fifth (batches of 100 KiB, 8 in flight).
   */
  take(freeSlots = 1): CommitUnit[] {
    const { transactionRecordsMax, passedMax } = this.#limits;
    const transactionBytesMax = this.#transactionBytesMax(freeSlots);
    const taken: CommitUnit[] = [];
    const passed: Waiting[] = [];
    const blocked = new Set(this.#busy);
    let bytes = 0;
    let records = 0;
    let at = 0;
    for (; at < this.#waiting.length && passed.length < passedMax; at++) {
      const waiting = present(this.#waiting[at], 'the queue is walked within its length');
      const { unit, conflicts } = waiting;
      if (this.#isHeld(unit) || touches(conflicts, blocked)) {
        // No later unit that conflicts with this one may overtake it.
        block(conflicts, blocked);
        passed.push(waiting);
        continue;
      }
      if (taken.length > 0 && (bytes + unit.bytes > transactionBytesMax || records >= transactionRecordsMax)) break;
      taken.push(unit);
      block(conflicts, this.#busy);
      bytes += unit.bytes;
      records += unit.records;
      this.#count(unit, -1);
    }
    if (taken.length === 0) return taken;
    this.#waiting = passed.length === 0 ? this.#waiting.slice(at) : passed.concat(this.#waiting.slice(at));
    return taken;
  }

  #transactionBytesMax(freeSlots: number): number {
    const { transactionBytesMax, sharedBytesMin } = this.#limits;
    return Math.min(transactionBytesMax, Math.max(sharedBytesMin, Math.ceil(this.#bytes / freeSlots)));
  }

  /** Unblocks the units that conflict with these, after their transaction has ended. */
  release(units: readonly CommitUnit[]): void {
    for (const unit of units) {
      for (const one of conflictsOf(unit)) this.#busy.delete(one);
      this.#giveBack(unit);
    }
  }

  /** Takes no unit of the topic until `unhold`. */
  hold(topic: Topic): void {
    this.#held.add(topic);
  }

  unhold(topic: Topic): void {
    this.#held.delete(topic);
  }

  /** Removes and returns the units that match. */
  remove(wanted: (unit: CommitUnit) => boolean): CommitUnit[] {
    const removed = this.#waiting.map(({ unit }) => unit).filter(wanted);
    if (removed.length === 0) return removed;
    this.#waiting = this.#waiting.filter(({ unit }) => !wanted(unit));
    for (const unit of removed) {
      this.#count(unit, -1);
      this.#giveBack(unit);
    }
    return removed;
  }

  #giveBack({ own, queued }: CommitUnit): void {
    if (!own) this.#room.give(queued);
  }

  #count({ bytes, records }: CommitUnit, sign: 1 | -1): void {
    this.#bytes += sign * bytes;
    this.#records += sign * records;
  }

  #isHeld({ publishes }: CommitUnit): boolean {
    if (this.#held.size === 0) return false;
    return publishes.some(({ topic }) => this.#held.has(topic));
  }
}

/** A waiting unit, with the objects that it must not share with a unit in flight. */
interface Waiting {
  readonly unit: CommitUnit;
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

/** The partitions and streams of a unit, and the key caches of its topics if it has keys. */
function conflictsOf({ publishes }: CommitUnit): object[] {
  const conflicts: object[] = [];
  for (const { shares, command, topic } of publishes) {
    for (const { partition } of shares) conflicts.push(partition);
    if (command.stream !== null) conflicts.push(command.stream);
    if (command.idempotencyKeys !== null) conflicts.push(topic.keys);
  }
  return conflicts;
}
