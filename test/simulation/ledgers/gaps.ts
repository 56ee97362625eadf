import type { TopicPartition } from '../../../src/delivery/ports/session.ts';
import { cursorName } from '../../../src/delivery/ports/store.ts';
import type { Database } from '../database/database.ts';
import type { World } from '../world.ts';
import type { Recipient } from './group-ledger.ts';
import type { SentBatch } from './ledger.ts';

/** Checks that a member gets the gap of a log before the records behind it. */
export class GapLedger {
  readonly #world: World;
  readonly #database: Database;
  readonly #subscriptionOf: (group: string, topic: string) => number;

  constructor(world: World, database: Database, subscriptionOf: (group: string, topic: string) => number) {
    this.#world = world;
    this.#database = database;
    this.#subscriptionOf = subscriptionOf;
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
