import type { GapOfLog, TopicPartition } from '../../../src/delivery/ports/session.ts';
import { cursorName, type StoredGap, type ToldGap } from '../../../src/delivery/ports/store.ts';
import type { Database } from '../database/database.ts';
import type { World } from '../world.ts';
import type { Recipient } from './group-ledger.ts';
import type { SentBatch } from './ledger.ts';

/** Checks that a member gets the gap of a log before the records behind it, and no gap is lost. */
export class GapLedger {
  readonly #world: World;
  readonly #database: Database;
  readonly #subscriptionOf: (group: string, topic: string) => number;

  /** The ends of the gaps that a stream or an answer has named, by the cursor. */
  readonly #named = new Map<string, Set<number>>();

  /** Whether the group has never handled a record of the gap. */
  readonly #isLoss: (gap: StoredGap) => boolean;

  constructor(
    world: World,
    database: Database,
    {
      subscriptionOf,
      isLoss,
    }: {
      readonly subscriptionOf: (group: string, topic: string) => number;
      readonly isLoss: (gap: StoredGap) => boolean;
    },
  ) {
    this.#world = world;
    this.#database = database;
    this.#subscriptionOf = subscriptionOf;
    this.#isLoss = isLoss;
  }

  /** A stream or an answer names a gap. */
  named(group: string, { topic, partition, lane, last }: GapOfLog): void {
    const name = cursorName({ subscriptionId: this.#subscriptionOf(group, topic), partition, lane });
    const ends = this.#named.get(name) ?? new Set();
    this.#named.set(name, ends.add(last));
  }

  /** Checks gaps that count as told from now on. */
  told(gaps: readonly ToldGap[]): void {
    for (const { key, last } of gaps) {
      this.#world.count('a gap counts as told');
      this.#world.demand(
        this.#named.get(cursorName(key))?.has(last) === true,
        () => `the gap of ${cursorName(key)} to @${last} counts as told, and no member has got it`,
      );
    }
  }

  /** A gap that no member has got; null without one. */
  missing(): string | null {
    const { gaps, subscriptions } = this.#database.groups;
    for (const [name, stored] of gaps) {
      const { key, gap, isTold } = stored;
      if (isTold || subscriptions.find(key.subscriptionId)?.state === 'CANCELLED') continue;
      // Acks may have passed the gap while it was being stored. Then the cursor does not jump.
      if (!this.#isLoss(stored)) continue;
      if (this.#named.get(name)?.has(gap.last) !== true) return `no member has got the gap of ${name} to @${gap.last}`;
    }
    return null;
  }

  /**
   * Checks a batch. The record right behind a gap goes out only until it is acked, and so only
   * while the gap is open. `named`: the end of the last gap that the same stream, or the same
   * answer, has named of a partition.
   */
  sent(
    { epoch, group, memberId }: Recipient,
    batch: SentBatch,
    named: (place: TopicPartition) => number | undefined,
  ): void {
    const { topic, partition, records } = batch;
    const subscriptionId = this.#subscriptionOf(group, topic);
    const gap = this.#database.groups.gaps.get(cursorName({ subscriptionId, partition, lane: 0 }))?.gap;
    if (gap === undefined || epoch !== this.#database.epoch) return;
    if (!records.some(({ offset }) => offset === gap.last + 1)) return;
    this.#world.count('a record goes out behind a gap');
    this.#world.demand(
      named(batch) === gap.last,
      () => `${group}: ${topic}/${partition}@${gap.last + 1} goes out to ${memberId} without the gap before it`,
    );
  }
}
