import type { MemberId } from '../../src/coordinator/group.ts';
import type { TopicPartition } from '../../src/delivery/ports/session.ts';
import type { Ledger, SentBatch } from './ledger.ts';

const nameOf = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`;

/**
 * What a stream brings of each partition comes in order, from the first record that is not acked: nothing is passed over but
 * what is acked, and nothing comes again but from where the member itself has given it back.
 */
export class StreamOrder {
  readonly #ledger: Ledger;
  readonly #group: string;
  /** Where delivery of each partition goes on. */
  readonly #next = new Map<string, number>();

  constructor(ledger: Ledger, group: string) {
    this.#ledger = ledger;
    this.#group = group;
  }

  /** A partition that was gone meanwhile begins anew. */
  assigned(partitions: readonly TopicPartition[]): void {
    const held = new Set(partitions.map(nameOf));
    for (const name of this.#next.keys()) if (!held.has(name)) this.#next.delete(name);
    for (const name of held) if (!this.#next.has(name)) this.#next.set(name, 0);
  }

  /** @param epoch of the broker that sends it. */
  sent(memberId: MemberId, batch: SentBatch, epoch: number): void {
    const { world } = this.#ledger;
    const name = nameOf(batch);
    let next = this.#next.get(name);
    if (next === undefined) {
      world.violated(`${this.#group}: ${name} comes by a stream that was not told to have it`);
      return;
    }
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
