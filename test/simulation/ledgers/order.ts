import type { MemberId } from '../../../src/coordinator/group.ts';
import type { GapOfLog, TopicPartition } from '../../../src/delivery/ports/session.ts';
import type { Ledger, SentBatch } from './ledger.ts';

const nameOf = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`;

/**
 * Checks the order of each partition in a stream. It begins at the first record that is not acked.
 * Only acked records may be passed over, and only records from the lowest one that the member
 * itself has given back may come again.
 */
export class StreamOrder {
  readonly #ledger: Ledger;
  readonly #group: string;
  /** The next expected offset of each partition. */
  readonly #next = new Map<string, number>();
  /** The end of the last gap of each partition that the stream has named. */
  readonly #gaps = new Map<string, number>();

  constructor(ledger: Ledger, group: string) {
    this.#ledger = ledger;
    this.#group = group;
  }

  /** Takes an assignment. A partition that was lost in between begins at 0 again. */
  assigned(partitions: readonly TopicPartition[]): void {
    const held = new Set(partitions.map(nameOf));
    for (const name of this.#next.keys()) if (!held.has(name)) this.#next.delete(name);
    for (const name of this.#gaps.keys()) if (!held.has(name)) this.#gaps.delete(name);
    for (const name of held) if (!this.#next.has(name)) this.#next.set(name, 0);
  }

  gap(gap: GapOfLog): void {
    this.#gaps.set(nameOf(gap), gap.last);
  }

  /** Checks a batch. `epoch` is that of the sending broker. */
  sent(memberId: MemberId, batch: SentBatch, epoch: number): void {
    const { world } = this.#ledger;
    const name = nameOf(batch);
    let next = this.#next.get(name);
    if (next === undefined) {
      world.violated(`${this.#group}: ${name} comes by a stream that was not told to have it`);
      return;
    }
    this.#ledger.gaps.sent({ epoch, group: this.#group, memberId }, batch, (place) => this.#gaps.get(nameOf(place)));
    for (const { offset } of batch.records) {
      if (offset < next) {
        const backTo = this.#ledger.takeGivenBack(this.#group, memberId, batch);
        world.demand(offset >= backTo, () => `${this.#group}: ${name}@${offset} comes behind @${next! - 1}`);
      }
      for (let passed = next; passed < offset; passed++) {
        world.demand(
          this.#ledger.mayPassOver(this.#group, batch, passed, epoch),
          () => `${this.#group}: ${name}@${offset} comes before @${passed}, which is not acked`,
        );
      }
      next = offset + 1;
    }
    this.#next.set(name, next);
  }
}
