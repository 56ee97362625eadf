import { mergeAttempts, unackedAttempts, type AttemptRuns } from '../../consumption/offsets/attempt-runs.ts';
import { addRuns, cutBelow } from '../../consumption/offsets/runs.ts';
import {
  laterOf,
  mergeDelta,
  type CommitMetadata,
  type CursorDelta,
  type CursorSnapshot,
} from '../../consumption/partitioned/cursor.ts';
import { cursorName, type AckLogSize, type CursorKey, type StoredCursor } from '../../delivery/ports/store.ts';

const none: readonly number[] = [];

/**
 * The sum of all deltas of one cursor in the ack log, in any order and with repeats. It merges each
 * delta as it comes, because all deltas of all rounds together may exceed the memory of the broker.
 */
class DeltaSum {
  readonly key: CursorKey;
  #resets: number;
  #committedOffset: number;
  #acked: number[] | null = null;
  #attempts: AttemptRuns = none;
  #metadata: CommitMetadata | null = null;

  constructor(key: CursorKey, resets: number) {
    this.key = key;
    this.#resets = resets;
    this.#committedOffset = 0;
  }

  /** Ignores a delta of an earlier incarnation than the latest. */
  add({ resets, committedOffset, acked, attempts, metadata }: CursorDelta): void {
    if (resets < this.#resets) return;
    if (resets > this.#resets) this.#begin(resets);
    this.#committedOffset = Math.max(this.#committedOffset, committedOffset);
    // The array is made late, because nearly all of a million cursors have no run.
    if (acked.length > 0) addRuns((this.#acked ??= []), acked);
    if (this.#acked !== null) cutBelow(this.#acked, this.#committedOffset);
    if (attempts.length > 0) {
      const merged = mergeAttempts(this.#attempts, attempts);
      this.#attempts = unackedAttempts(merged, this.#committedOffset, this.#acked ?? none);
    }
    this.#metadata = laterOf(this.#metadata, metadata);
  }

  /** Whether it has only a committed offset, as most sums do. */
  get isPlain(): boolean {
    return this.#acked === null && this.#attempts.length === 0 && this.#metadata === null;
  }

  /** What it keeps beside a committed offset, for the account of memory. */
  get size(): AckLogSize['size'] {
    return {
      notes: this.#metadata === null ? 0 : 1,
      noteBytes: Buffer.byteLength(this.#metadata?.text ?? ''),
      holes: (this.#acked?.length ?? 0) / 2,
      attempts: this.#attempts.length / 3,
    };
  }

  appliedTo(cursor: CursorSnapshot): CursorSnapshot {
    return mergeDelta(cursor, {
      resets: this.#resets,
      committedOffset: this.#committedOffset,
      acked: this.#acked ?? none,
      attempts: this.#attempts,
      metadata: this.#metadata,
    });
  }

  #begin(resets: number): void {
    this.#resets = resets;
    this.#committedOffset = 0;
    this.#acked = null;
    this.#attempts = none;
    this.#metadata = null;
  }
}

/**
 * What the predecessor left in the ack log, as one sum for each cursor. Deltas of ended
 * subscriptions are ignored, because clients can make and end any number of them before a fold.
 */
export class DeltaSums {
  /** By subscription. Subscriptions that have ended, or are younger, are missing. */
  readonly #sums: Map<number, Map<string, DeltaSum>>;
  readonly #groupOf: ReadonlyMap<number, number>;

  /** @param groupOf the groups of the active subscriptions. */
  constructor(groupOf: ReadonlyMap<number, number> = new Map(), sums?: ReadonlyMap<number, Map<string, DeltaSum>>) {
    this.#groupOf = groupOf;
    this.#sums = new Map(sums);
  }

  get size(): number {
    let size = 0;
    for (const ofSubscription of this.#sums.values()) size += ofSubscription.size;
    return size;
  }

  add(key: CursorKey, delta: CursorDelta): void {
    if (!this.#groupOf.has(key.subscriptionId)) return;
    const ofSubscription = this.#sums.get(key.subscriptionId) ?? new Map<string, DeltaSum>();
    this.#sums.set(key.subscriptionId, ofSubscription);
    const name = cursorName(key);
    let sum = ofSubscription.get(name);
    if (sum === undefined) ofSubscription.set(name, (sum = new DeltaSum(key, delta.resets)));
    sum.add(delta);
  }

  has({ key }: StoredCursor): boolean {
    return this.#sums.get(key.subscriptionId)?.has(cursorName(key)) === true;
  }

  /** The cursor with its sum, if it has one. */
  appliedTo(stored: StoredCursor): StoredCursor {
    const { key, cursor } = stored;
    // Without sums, as after a shutdown, the names of a million cursors would be made in vain.
    const sum = this.#sums.get(key.subscriptionId)?.get(cursorName(key));
    return sum === undefined ? stored : { key, cursor: sum.appliedTo(cursor) };
  }

  /** Drops the sums of the cursors of a subscription. */
  drop(subscriptionId: number): void {
    this.#sums.delete(subscriptionId);
  }

  /** The sums that are there now. Later drops do not change the copy. */
  copy(): DeltaSums {
    return new DeltaSums(this.#groupOf, this.#sums);
  }

  /** The keys of all sums but those of `written`. */
  *keysBut(written: ReadonlySet<string>): Generator<CursorKey> {
    for (const ofSubscription of this.#sums.values()) {
      for (const [name, { key }] of ofSubscription) if (!written.has(name)) yield key;
    }
  }

  /** The sizes of the sums by group, of groups that have any. */
  sizes(): AckLogSize[] {
    const sizes = new Map<number, AckLogSize['size']>();
    for (const [subscriptionId, ofSubscription] of this.#sums) {
      const groupId = this.#groupOf.get(subscriptionId);
      if (groupId === undefined) continue;
      for (const sum of ofSubscription.values()) {
        if (!sum.isPlain) sizes.set(groupId, added(sizes.get(groupId), sum.size));
      }
    }
    return Array.from(sizes, ([groupId, size]) => ({ groupId, size }));
  }
}

function added(a: AckLogSize['size'] | undefined, b: AckLogSize['size']): AckLogSize['size'] {
  if (a === undefined) return b;
  return {
    notes: a.notes + b.notes,
    noteBytes: a.noteBytes + b.noteBytes,
    holes: a.holes + b.holes,
    attempts: a.attempts + b.attempts,
  };
}
