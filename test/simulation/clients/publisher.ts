import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { boundsPerRecord, type RecordSet } from '../../../src/log/batch.ts';
import type { PublishedRecords, PublishStreamToken } from '../../../src/commit/publish.ts';
import type { Ledger } from '../ledgers/ledger.ts';
import type { Network } from '../network.ts';
import type { World } from '../world.ts';

interface NewRecord {
  readonly key: string;
  readonly value: string;
}

const retryMs = 200;
const pauseMsMax = 10_000;

/**
 * Publishes records with idempotency keys until they are confirmed. Each record must then be in the
 * log once, and the records of a key in the order of their publishes. It sends one request after
 * the other, or several at once on a stream.
 */
export class Publisher {
  done = false;
  readonly #world: World;
  readonly #network: Network;
  readonly #ledger: Ledger;
  readonly #name: string;
  readonly #topic: string;
  /** Requests in flight. */
  readonly #window: number;
  #published = 0;
  /**
   * The last offset of each key and partition. A key changes its partition when the topic grows.
   */
  readonly #last = new Map<string, number>();

  constructor(world: World, network: Network, ledger: Ledger, name: string, topic: string) {
    this.#world = world;
    this.#network = network;
    this.#ledger = ledger;
    this.#name = name;
    this.#topic = topic;
    this.#window = world.pick([1, 1, 4, 8])!;
  }

  async run(requests: number, withinMs: number): Promise<void> {
    for (let request = 0; request < requests; request += this.#window) {
      const window = Array.from({ length: this.#window }, () =>
        Array.from({ length: this.#world.whole(1, 6) }, () => this.#record()),
      );
      if (this.#window === 1) await this.#publish(window[0]!);
      else await this.#publishAll(window);
      await this.#world.pause(Math.min(pauseMsMax, this.#world.between(0, (2 * withinMs * this.#window) / requests)));
    }
    this.done = true;
  }

  #record(): NewRecord {
    return { key: `${this.#name}-${this.#world.whole(0, 4)}`, value: `${this.#name}:${this.#published++}` };
  }

  async #publish(records: readonly NewRecord[]): Promise<void> {
    for (;;) {
      try {
        const command = commandOf(this.#topic, records, null);
        this.#confirmed(records, await this.#network.call((broker) => broker.broker.publish(command)));
        return;
      } catch (error) {
        await this.#again(error);
      }
    }
  }

  /**
   * Sends all requests at once on a stream. Repeats those from the first failure on another stream.
   */
  async #publishAll(window: readonly (readonly NewRecord[])[]): Promise<void> {
    let left = window;
    while (left.length > 0) {
      const calls = this.#network.ordered();
      const stream: PublishStreamToken = { failure: null };
      const answers = await Promise.allSettled(
        left.map((records) => {
          const command = commandOf(this.#topic, records, stream);
          return calls.call((broker) => broker.broker.publish(command));
        }),
      );
      const failed = answers.findIndex(({ status }) => status === 'rejected');
      answers.slice(0, failed < 0 ? answers.length : failed).forEach((answer, index) => {
        if (answer.status === 'fulfilled') this.#confirmed(left[index]!, answer.value);
      });
      left = failed < 0 ? [] : left.slice(failed);
      const failure = answers[failed];
      if (failure?.status === 'rejected') await this.#again(failure.reason);
    }
  }

  #confirmed(records: readonly NewRecord[], published: PublishedRecords | null): void {
    records.forEach(({ key, value }, index) => {
      const offset = published!.offsets[index]!;
      const partition = published!.partitions[index]!;
      const place = `${key} in ${partition}`;
      if (published!.duplicates?.[index] === 1) this.#world.count('a publish is found to be there already');
      this.#ledger.confirmed(this.#topic, partition, offset, value);
      const before = this.#last.get(place) ?? -1;
      this.#world.demand(offset > before, () => `${value} of key ${key} is at ${offset}, not behind ${before}`);
      this.#last.set(place, offset);
    });
  }

  /** Waits before a retry. */
  async #again(error: unknown): Promise<void> {
    if (error instanceof Rejection && !['DRAINING', 'TOPIC_NOT_FOUND'].includes(error.reason)) {
      this.#world.violated(error);
    }
    await this.#world.pause(retryMs * this.#world.fraction());
  }
}

/** A publish whose records have their values as idempotency keys. */
export function commandOf(topic: string, records: readonly NewRecord[], stream: PublishStreamToken | null) {
  return {
    topic,
    records: recordSet(records),
    idempotencyKeys: records.map(({ value }) => value),
    partition: null,
    committed: true,
    expectedOffset: null,
    lane: null,
    stream,
  };
}

/** Keys and values as slices of one buffer, in the form that the scan of a request returns. */
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
