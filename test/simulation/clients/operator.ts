import type { ResetTo } from '../../../src/broker/commands.ts';
import type { TopicPartition } from '../../../src/delivery/ports/session.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import type { Ledger } from '../ledgers/ledger.ts';
import type { MemberSite } from './member.ts';
import { Unavailable, type Network } from '../network.ts';
import type { World } from '../world.ts';

const retriesMax = 2;

/**
 * An operator outside of the groups, who commits offsets for groups without members and resets
 * groups.
 */
export class Operator {
  readonly #world: World;
  readonly #network: Network;
  readonly #ledger: Ledger;

  constructor(world: World, network: Network, ledger: Ledger) {
    this.#world = world;
    this.#network = network;
    this.#ledger = ledger;
  }

  /**
   * Commits any offset of a partition, even behind its end or before the group's committed offset.
   */
  async commit({ group, topics }: MemberSite): Promise<void> {
    const place = this.#place(topics);
    if (place === null) return;
    const world = this.#world;
    const offset = world.chance(0.15) ? place.end + world.whole(1, 2) : world.whole(0, place.end);
    await this.#again(() =>
      this.#network.call(async (broker, serving) => {
        const commit = this.#ledger.commitArrived(serving.epoch, group, place, offset);
        try {
          const offsets = [{ topic: place.topic, partition: place.partition, lane: 0, offset, metadata: `${offset}` }];
          const [committed] = await broker.group.commitOffsets({ group, member: null, offsets });
          if (!serving.ended) this.#ledger.commitAnswered(commit, committed!);
        } finally {
          this.#ledger.commitEnded(commit);
        }
      }),
    );
  }

  /** Resets the group, or one of its partitions. */
  async reset({ group, topics }: MemberSite): Promise<void> {
    const world = this.#world;
    const place = this.#place(topics);
    if (place === null) return;
    const to = this.#target(place.end);
    const partitions = world.chance(0.5) ? [{ topic: place.topic, partition: place.partition, lane: 0 }] : [];
    const force = world.chance(0.6);
    await this.#again(() =>
      this.#network.call(async (broker, serving) => {
        const { epoch } = serving;
        const before = this.#ledger.resetArrived(epoch, group);
        try {
          const reset = await broker.group.resetOffsets({ group, topics: [], partitions, to, dryRun: false, force });
          if (serving.ended) return;
          world.count(`a group is reset${force ? ' by force' : ''}`);
          this.#ledger.resetAnswered(group, before, reset);
        } finally {
          this.#ledger.resetEnded(epoch, group);
        }
      }),
    );
  }

  #target(end: number): ResetTo {
    const world = this.#world;
    return world.pick<ResetTo>([
      { type: 'earliest' },
      { type: 'latest' },
      { type: 'offset', offset: world.whole(0, end) },
      { type: 'shift', by: world.whole(-20, 5) },
    ])!;
  }

  #place(topics: readonly string[]): (TopicPartition & { readonly end: number }) | null {
    return this.#world.pick(topics.flatMap((topic) => this.#ledger.places(topic))) ?? null;
  }

  /** Retries a call without an answer, or gives it up with an unknown outcome. */
  async #again(call: () => Promise<void>): Promise<void> {
    for (let retries = 0; retries <= retriesMax; retries++) {
      try {
        await call();
        return;
      } catch (error) {
        if (!(error instanceof Rejection || error instanceof Fault || error instanceof Unavailable)) throw error;
        if (error instanceof Rejection && error.reason !== 'DRAINING') return;
        if (this.#world.chance(0.3)) return;
        await this.#world.pause(this.#world.between(0, 500));
      }
    }
  }
}
