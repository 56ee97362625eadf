import { Rejection } from '../../src/errors/rejection.ts';
import { boundsPerRecord, type RecordSet } from '../../src/log/batch.ts';
import type { Ledger } from './ledger.ts';
import { caller, type Network } from './network.ts';
import type { World } from './world.ts';

interface NewRecord {
  readonly key: string;
  readonly value: string;
}

const retryMs = 200;

/**
 * Publishes records one request after the other, each until it is confirmed, with idempotency keys: so each is there once, and
 * those of a key stand in the log in the order in which they were published.
 */
export class Publisher {
  done = false;
  readonly #world: World;
  readonly #network: Network;
  readonly #ledger: Ledger;
  readonly #name: string;
  readonly #topic: string;
  #published = 0;
  /** By key: the last place. */
  readonly #last = new Map<string, number>();

  constructor(world: World, network: Network, ledger: Ledger, name: string, topic: string) {
    this.#world = world;
    this.#network = network;
    this.#ledger = ledger;
    this.#name = name;
    this.#topic = topic;
  }

  async run(requests: number, withinMs: number): Promise<void> {
    for (let request = 0; request < requests; request++) {
      await this.#publish(Array.from({ length: this.#world.whole(1, 6) }, () => this.#record()));
      await this.#world.pause(this.#world.between(0, (2 * withinMs) / requests));
    }
    this.done = true;
  }

  #record(): NewRecord {
    return { key: `${this.#name}-${this.#world.whole(0, 4)}`, value: `${this.#name}:${this.#published++}` };
  }

  async #publish(records: readonly NewRecord[]): Promise<void> {
    for (;;) {
      try {
        const published = await this.#network.call((broker) => broker.publish(caller, commandOf(this.#topic, records)));
        records.forEach(({ key, value }, index) => {
          const offset = published!.offsets[index]!;
          this.#ledger.confirmed(this.#topic, published!.partitions[index]!, offset, value);
          const before = this.#last.get(key) ?? -1;
          this.#world.demand(offset > before, () => `${value} of key ${key} is at ${offset}, not behind ${before}`);
          this.#last.set(key, offset);
        });
        return;
      } catch (error) {
        if (error instanceof Rejection && !['DRAINING', 'TOPIC_NOT_FOUND'].includes(error.reason)) throw error;
        await this.#world.pause(retryMs * this.#world.fraction());
      }
    }
  }
}

function commandOf(topic: string, records: readonly NewRecord[]) {
  return {
    topic,
    records: recordSet(records),
    idempotencyKeys: records.map(({ value }) => value),
    partition: null,
    committed: true,
    expectedOffset: null,
    stream: null,
  };
}

/** Keys and values as slices of one buffer, as the scan of a request gives them. */
function recordSet(records: readonly NewRecord[]): RecordSet {
  const buffer = Buffer.from(records.map(({ key, value }) => key + value).join(''));
  const bounds = new Int32Array(records.length * boundsPerRecord);
  let at = 0;
  records.forEach(({ key, value }, index) => {
    bounds.set([at, at + key.length], index * boundsPerRecord);
    bounds.set([at + key.length, at + key.length + value.length], index * boundsPerRecord + 4);
    at += key.length + value.length;
  });
  return { count: records.length, buffer, bounds };
}
