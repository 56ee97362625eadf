import type { ResetTo, StartPosition } from '../../../src/broker/commands.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import type { Ledger } from '../ledgers/ledger.ts';
import { Unavailable, type Network } from '../network.ts';
import type { World } from '../world.ts';

/** Rejections of a broker that is not the owner, or not yet, or that ends. */
const passing: readonly string[] = ['DRAINING', 'NOT_OWNER', 'TOPIC_NOT_FOUND'];
/** What a claimant may be told although it does nothing wrong: its calls overtake each other. */
const foreseen: readonly string[] = [
  'GROUP_NOT_FOUND',
  'SUBSCRIPTION_NOT_FOUND',
  'SUBSCRIPTION_EXISTS',
  'OFFSET_OUT_OF_RANGE',
];

/** Groups of claimants begin so. No member ever joins them. */
export const claimPrefix = 'claim-';

/**
 * Holds records back without reading them: subscribes from any position, commits, resets and
 * cancels, and subscribes again.
 */
export class Claimant {
  readonly #world: World;
  readonly #network: Network;
  readonly #ledger: Ledger;
  readonly #group: string;
  readonly #topic: string;
  #healed = false;

  constructor(world: World, network: Network, ledger: Ledger, name: string, topic: string) {
    this.#world = world;
    this.#network = network;
    this.#ledger = ledger;
    this.#group = `${claimPrefix}${name}`;
    this.#topic = topic;
  }

  async run(): Promise<void> {
    const world = this.#world;
    while (!this.#healed) {
      await this.#try(() => this.#act());
      await world.pause(world.between(100, 5_000));
    }
    // It ends its claim, and would hold everything back otherwise.
    while (!(await this.#try(() => this.#cancel()))) await world.pause(200);
  }

  /** It claims nothing any more. */
  heal(): void {
    this.#healed = true;
  }

  #act(): Promise<void> {
    const act = this.#world.fraction();
    if (act < 0.3) return this.#subscribe();
    if (act < 0.7) return this.#commit();
    return act < 0.9 ? this.#reset() : this.#cancel();
  }

  #subscribe(): Promise<void> {
    const start = this.#world.pick<StartPosition>([
      { type: 'earliest' },
      { type: 'latest' },
      { type: 'time', timeUs: (this.#world.nowMs - this.#world.between(0, 30_000)) * 1_000 },
      { type: 'offsets', offset: this.#place().offset, partitions: [] },
    ])!;
    const command = { group: this.#group, topic: this.#topic, start };
    return this.#network.call(async (broker) => {
      await broker.subscription.createSubscription(command);
      this.#world.count('a claim begins');
    });
  }

  #commit(): Promise<void> {
    const offsets = [{ topic: this.#topic, ...this.#place(), lane: 0, metadata: '' }];
    return this.#network.call(async (broker) => {
      const [committed] = await broker.group.commitOffsets({ group: this.#group, member: null, offsets });
      this.#world.count(`a claim is committed: ${committed!.status}`);
    });
  }

  #reset(): Promise<void> {
    const { partition, offset } = this.#place();
    const to = this.#world.pick<ResetTo>([
      { type: 'earliest' },
      { type: 'latest' },
      { type: 'offset', offset },
      { type: 'shift', by: this.#world.whole(-20, 5) },
    ])!;
    const partitions = this.#world.chance(0.5) ? [{ topic: this.#topic, partition, lane: 0 }] : [];
    const command = { group: this.#group, topics: [], partitions, to, dryRun: false, force: false };
    return this.#network.call(async (broker) => {
      await broker.group.resetOffsets(command);
      this.#world.count('a claim begins anew');
    });
  }

  #cancel(): Promise<void> {
    return this.#network.call(async (broker) => {
      await broker.subscription.cancelSubscription(this.#group, this.#topic);
      this.#world.count('a claim ends');
    });
  }

  #place(): { readonly partition: number; readonly offset: number } {
    const place = this.#world.pick(this.#ledger.places(this.#topic));
    return { partition: place?.partition ?? 0, offset: this.#world.whole(0, place?.end ?? 0) };
  }

  /**
   * @returns whether the call has ended, also by a rejection. Its outcome may be unknown otherwise.
   */
  async #try(call: () => Promise<void>): Promise<boolean> {
    try {
      await call();
      return true;
    } catch (error) {
      if (error instanceof Rejection && foreseen.includes(error.reason)) return true;
      if (error instanceof Rejection && passing.includes(error.reason)) return false;
      if (error instanceof Fault || error instanceof Unavailable) return false;
      throw error;
    }
  }
}
