import type { Services } from '../../../src/broker/services.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import type { SimulatedBroker } from '../brokers/broker.ts';
import type { Ledger } from '../ledgers/ledger.ts';
import { Unavailable, type Network } from '../network.ts';
import type { World } from '../world.ts';

const triesMax = 4;
/** The longest dead_after that a run waits for. */
export const hastenedMsMax = 8_000;

type Call = (
  broker: Services['subscription'],
  names: readonly [group: string, topic: string],
  serving: SimulatedBroker,
) => Promise<unknown>;

/** An operator who pauses, resumes, changes and cancels subscriptions. */
export class LifeOperator {
  readonly #world: World;
  readonly #network: Network;
  readonly #ledger: Ledger;

  constructor(world: World, network: Network, ledger: Ledger) {
    this.#world = world;
    this.#network = network;
    this.#ledger = ledger;
  }

  pause(group: string, topics: readonly string[]): Promise<void> {
    return this.#call(group, topics, async (broker, names, { epoch }) => {
      const { id } = await broker.pauseSubscription(...names);
      this.#ledger.lives.pauseAnswered(epoch, id);
    });
  }

  resume(group: string, topics: readonly string[]): Promise<void> {
    return this.#call(group, topics, (broker, names) => broker.resumeSubscription(...names));
  }

  cancel(group: string, topics: readonly string[]): Promise<void> {
    return this.#call(group, topics, (broker, names) => broker.cancelSubscription(...names));
  }

  /** Lets subscriptions die sooner than by default, as far as one run is concerned. */
  async hasten(group: string, topics: readonly string[]): Promise<void> {
    const deadAfterMs = this.#world.whole(500, hastenedMsMax);
    for (const topic of topics) {
      await this.#call(group, [topic], (broker, names) => {
        return broker.updateSubscription(...names, deadAfterMs);
      });
    }
  }

  /** Calls a broker for one of the topics, until there is an answer or the operator gives up. */
  async #call(group: string, topics: readonly string[], call: Call): Promise<void> {
    const topic = this.#world.pick(topics)!;
    for (let tries = 0; tries < triesMax; tries++) {
      try {
        await this.#network.call((broker, serving) => call(broker.subscription, [group, topic], serving));
        return;
      } catch (error) {
        if (!(error instanceof Rejection || error instanceof Fault || error instanceof Unavailable)) throw error;
        if (error instanceof Rejection && error.reason !== 'DRAINING') return;
        await this.#world.pause(this.#world.between(0, 500));
      }
    }
  }
}
