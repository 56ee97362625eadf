import type { Client, QueryResultRow } from 'pg';
import { openBroker, type OpenBroker } from '../../../src/broker/opening.ts';
import type { Services } from '../../../src/broker/services.ts';
import { WriteTrouble } from '../../../src/errors/write-trouble.ts';
import type { StoredDrop } from '../../../src/lifecycle/store.ts';
import { limits } from '../../../src/limits/limits.ts';
import type { RetentionSettings } from '../../../src/retention/settings.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';
import { createBatchCodec } from '../../../src/wire/batch-codec.ts';
import { randomValues } from '../../../bench/support/random.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { PostgresStoreSite } from '../../conformance/postgres-site.ts';
import type { Stores } from '../../conformance/site.ts';
import { command, records } from '../../log/scene.ts';
import { fastClock } from './fast-clock.ts';

export const minute = 60_000;
export const hour = 60 * minute;
export const day = 24 * hour;

export const settings: RetentionSettings = {
  afterCompletionMs: hour,
  excusedKeepMs: 2 * hour,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: day,
};

/** How much faster the background jobs of these brokers run. */
const speed = 100;
/** A record of random text, which does not compress: a segment has a dozen of them. */
const recordBytes = 12_288;
const segmentBytesMax = 262_144;

/** A broker on PostgreSQL with small segments. The test chooses the time of its database. */
export class RetentionScene {
  readonly #site: PostgresStoreSite;
  #seed = 0;
  #stores: Stores;
  #broker: OpenBroker;
  /** The looks at each topic that have begun. */
  readonly #looks: Map<number, number>;

  private constructor(site: PostgresStoreSite, stores: Stores, broker: OpenBroker, looks: Map<number, number>) {
    this.#site = site;
    this.#stores = stores;
    this.#broker = broker;
    this.#looks = looks;
  }

  static async open(): Promise<RetentionScene> {
    const site = await PostgresStoreSite.open();
    try {
      const looks = new Map<number, number>();
      const stores = counting(await site.own(), looks);
      return new RetentionScene(site, stores, await opened(stores), looks);
    } catch (error) {
      await site.close();
      throw error;
    }
  }

  get services(): Services {
    return this.#broker.services;
  }

  get stores(): Stores {
    return this.#stores;
  }

  get counts(): ReturnType<OpenBroker['counts']> {
    return this.#broker.counts();
  }

  /** The broker ends without a word, and another one takes over. */
  async takeOver(): Promise<void> {
    this.#broker.stop();
    this.#stores = counting(await this.#site.own(), this.#looks);
    this.#broker = await opened(this.#stores);
  }

  async close(): Promise<void> {
    await this.#broker.drain(0);
    await this.#site.close();
  }

  /** The time of the database. */
  get nowMs(): number {
    return this.#site.nowMs;
  }

  /** Moves the time of the database. */
  pass(ms: number): void {
    this.#site.pass(ms);
  }

  async topic(
    name: string,
    { partitions = 1, retention = {} }: { partitions?: number; retention?: Partial<RetentionSettings> } = {},
  ): Promise<void> {
    const choices = { idempotencyWindowMs: limits.idempotencyWindowMsDefault, description: '' };
    await this.services.topic.createTopic({ name, partitions, ...choices, retention: { ...settings, ...retention } });
  }

  subscribe(group: string, topic: string, start: 'earliest' | 'latest' = 'earliest') {
    return this.services.subscription.createSubscription({ group, topic, start: { type: start } });
  }

  /** Publishes records one after the other. @returns the offset of the last one. */
  async publish(topic: string, count: number, partition = 0): Promise<number> {
    let last = -1;
    for (let n = 0; n < count; n += 1) {
      const [value] = randomValues((this.#seed += 1), 1, recordBytes);
      const published = await this.services.broker.publish(
        command(topic, records(value!.toString('base64url')), { partition }),
      );
      last = published?.offsets[0] ?? -1;
    }
    return last;
  }

  /** Publishes until so many segments are sealed. @returns the number of records. */
  async fill(topic: string, sealed: number, partition = 0): Promise<number> {
    let published = 0;
    for (const until = (await this.segment(topic)) + sealed; (await this.segment(topic)) < until; published += 1) {
      await this.publish(topic, 1, partition);
    }
    return published;
  }

  /** The number of the topic's current segment. */
  async segment(topic: string): Promise<number> {
    return (await this.#row(topic)).segment;
  }

  /** The group, which has no members, has done everything below the offset. */
  async commit(group: string, topic: string, offset: number, partition = 0): Promise<void> {
    const offsets = [{ topic, partition, lane: null, offset, metadata: '' }];
    const [committed] = await this.services.group.commitOffsets({ group, member: null, offsets });
    if (committed?.status !== 'OK') throw new Error(`the commit was answered ${committed?.status}`);
  }

  /** Where the log of a partition begins, as clients see it. */
  async extent(topic: string, partition = 0) {
    const { partitions } = await this.services.topic.getTopic(topic, { size: 100, token: '' });
    return partitions.items[partition]!;
  }

  async drops(topic: string): Promise<StoredDrop[]> {
    return (await this.stores.retention.audit(topic, 10_000)).reverse();
  }

  /** Resolves when the cleaner has looked at the topic, with facts from after this call. */
  async looked(topic: string): Promise<void> {
    const { id } = await this.#row(topic);
    const looks = (): number => this.#looks.get(id) ?? 0;
    // The first of these looks may have begun before, and the third begins when the second is over.
    const until = looks() + 3;
    await this.until('three looks of the cleaner', async () => {
      await this.storage(topic);
      return looks() >= until;
    });
  }

  /** Resolves when so many segments were found complete. Their retention counts from then. */
  async completed(topic: string, segments: number): Promise<void> {
    await this.until(`${segments} complete segments`, async () => {
      const { items } = (await this.storage(topic)).segments;
      return items.filter(({ completedAtMs }) => completedAtMs !== null).length === segments;
    });
  }

  storage(topic: string) {
    return this.services.topic.getTopicStorage(topic, { size: 1_000, token: '' });
  }

  /** The number of records that the log still gives to a reader from its start. */
  async readable(topic: string, partition = 0): Promise<number[]> {
    const offsets: number[] = [];
    const { logStartOffset, highWatermark } = await this.extent(topic, partition);
    for (let offset = logStartOffset; offset < highWatermark;) {
      const read = await this.services.message.readMessages({
        topic,
        partition,
        lane: null,
        from: { offset },
        maxRecords: 10_000,
        maxBytes: 1_000_000,
      });
      for (let at = offset; at < read.nextOffset; at += 1) offsets.push(at);
      offset = read.nextOffset;
    }
    return offsets;
  }

  /** A topic rests for twenty times as long as a look took, which is long on a busy machine. */
  async until(what: string, holds: () => Promise<boolean> | boolean, timeoutMs = 300_000): Promise<void> {
    await waitFor(what, timeoutMs, 100, async () => holds());
  }

  /** The tables of segments that exist. */
  async tables(topic: string): Promise<number[]> {
    const { id } = await this.#row(topic);
    const rows = await this.query<{ name: string }>(
      "SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relname ~ $1 ORDER BY oid",
      [`^record_batches_${id}_[0-9]+$`],
    );
    return rows.map(({ name }) => Number(name.split('_').at(-1)));
  }

  /** A session that is not of the broker. */
  session(): Promise<Client> {
    return this.#site.session();
  }

  async query<Row extends QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return (await this.#site.client.query<Row>(text, values)).rows;
  }

  async #row(topic: string) {
    const row = (await this.stores.topics.loadTopics()).find(({ name }) => name === topic);
    if (row === undefined) throw new Error(`there is no topic ${topic}`);
    return row;
  }
}

/** Stores that count the looks at each topic. */
function counting(stores: Stores, looks: Map<number, number>): Stores {
  const retention = new Proxy(stores.retention, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]): unknown => {
        if (name === 'facts') looks.set(args[0] as number, (looks.get(args[0] as number) ?? 0) + 1);
        return Reflect.apply(member, target, args);
      };
    },
  });
  const { log, commits, topics, groups } = stores;
  return { log, commits, topics, groups, retention };
}

function opened(stores: Stores): Promise<OpenBroker> {
  return openBroker({
    stores,
    writes: new WriteTrouble(() => systemClock.wallMs()),
    codec: createBatchCodec(),
    clock: fastClock(speed),
    // Members are judged by the time of the machine.
    awakeClock: systemClock,
    random: systemRandom,
    account: roomyAccount(),
    limits,
    mayDeliver: () => true,
    onFenced: () => undefined,
    log: { info: () => undefined, warn: () => undefined },
    // Segments end by their size only, so that each test knows how many there are.
    segmentLimits: { bytesMax: segmentBytesMax, ageMsMin: 1_000 * day },
  });
}
