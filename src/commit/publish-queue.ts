import type { Counted } from '../account/hold.ts';
import type { Topic } from '../log/topic.ts';
import type { CommitUnit } from './unit.ts';

export interface QueueLimits {
  /** One transaction. */
  readonly transactionBytesMax: number;
  readonly transactionRecordsMax: number;
  /** Less than this is not shared out among connections: a transaction costs as much as appending this. */
  readonly sharedBytesMin: number;
  /** Units that one look passes over because something in front of them is in flight. */
  readonly passedMax: number;
}

/**
 * Units that wait for their commit, in the order in which they came. What is taken for a transaction conflicts with nothing in
 * flight and overtakes nothing that it conflicts with: two units conflict if they touch the same partition, come by
 * the same stream, or both have idempotency keys of one topic. Settlements conflict with nothing: their rows may come in any order.
 *
 * A publisher's unit is in the account of memory from `push` to the end of its transaction. Units of the broker itself are not:
 * publishers that fill the queue keep none of them out, nor they a publisher.
 */
export class PublishQueue {
  readonly #limits: QueueLimits;
  readonly #account: Counted;
  #waiting: Waiting[] = [];
  #bytes = 0;
  #records = 0;
  /** What transactions in flight touch. */
  readonly #busy = new Set<object>();
  readonly #held = new Set<Topic>();

  constructor(limits: QueueLimits, account: Counted) {
    this.#limits = limits;
    this.#account = account;
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
    if (!unit.own && !this.#account.take(unit.heldBytes)) return false;
    this.#waiting.push({ unit, conflicts: conflictsOf(unit) });
    this.#count(unit, 1);
    return true;
  }

  /**
   * Takes units for one transaction; what they touch is busy until `release`. With `freeSlots` connections to share them it takes its
   * part, if that is enough for a transaction: else whatever was answered together would come back together, and one
   * connection would do all the work (batches of 100 KiB, 8 in flight: a fifth less).
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
      const waiting = this.#waiting[at]!;
      const { unit, conflicts } = waiting;
      if (this.#isHeld(unit) || touches(conflicts, blocked)) {
        // Nothing that comes later may overtake it.
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

  /** A transaction has ended. */
  release(units: readonly CommitUnit[]): void {
    for (const unit of units) {
      for (const one of conflictsOf(unit)) this.#busy.delete(one);
      this.#giveBack(unit);
    }
  }

  /** Nothing of the topic is taken until `unhold`. */
  hold(topic: Topic): void {
    this.#held.add(topic);
  }

  unhold(topic: Topic): void {
    this.#held.delete(topic);
  }

  /** Takes out everything that `wanted` says. */
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

  #giveBack({ own, heldBytes }: CommitUnit): void {
    if (!own) this.#account.give(heldBytes);
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

/** A unit that waits, with what it must have to itself. */
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

/** What a unit must have to itself: its partitions, its stream, and the keys of its topics if it has any. */
function conflictsOf({ publishes }: CommitUnit): object[] {
  const conflicts: object[] = [];
  for (const { shares, command, topic } of publishes) {
    for (const { partition } of shares) conflicts.push(partition);
    if (command.stream !== null) conflicts.push(command.stream);
    if (command.idempotencyKeys !== null) conflicts.push(topic.keys);
  }
  return conflicts;
}
