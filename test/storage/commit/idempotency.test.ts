import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import { Publisher } from '../../../src/commit/publisher.ts';
import { Log } from '../../../src/log/log.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { ringTables } from '../../../src/storage/commit/idempotency.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';
import { createBatchCodec } from '../../../src/wire/batch-codec.ts';
import { LogSite } from '../log/log-site.ts';
import { TravelTime } from '../../time/travel-time.ts';
import { batch, readAll, selection, transaction, values } from '../../log/records.ts';
import { roomyAccount } from '../../account/accounts.ts';

const windowMs = 60_000;

const time = new TravelTime(Math.floor(systemClock.wallMs()));

let site: LogSite;
let storage: Storage;
let topic: TopicRow;

beforeAll(async () => {
  site = await LogSite.open();
  site.now = time.iso;
  storage = await site.own('one', 1);
});

beforeEach(async () => {
  await site.client.query('DELETE FROM millrace.topics');
  for (let table = 0; table < ringTables; table++) await site.client.query(`TRUNCATE millrace.idempotency_${table}`);
  await site.client.query('UPDATE millrace.idempotency_ring SET turned_at = $1', [time.iso()]);
  topic = await site.topic(storage, 3, windowMs);
});

afterAll(() => site.close());

/** Appends one record to partition 0 for each key. */
async function store(by: Storage, keys: readonly string[], partition = 0): Promise<number> {
  const records = values(...keys.map((key) => `of ${key}`));
  const stored = keys.map((key, index) => ({ topicId: topic.id, key, batch: 0, index }));
  const [appended] = await by.commits.append(0, transaction([batch(topic, partition, records)], stored));
  return appended!.baseOffset;
}

const find = async (keys: readonly string[], by = storage, topicId = topic.id) =>
  Object.fromEntries(
    [...(await by.commits.findKeys(topicId, windowMs, keys))].map(([key, hit]) => [
      key,
      `${hit.partition}:${hit.offset}`,
    ]),
  );

const keysIn = (table: number) => site.number(`SELECT count(*) AS n FROM millrace.idempotency_${table}`);
const current = () => site.number('SELECT current AS n FROM millrace.idempotency_ring');

describe('the ring of key tables', () => {
  test('the ring turns in time, and drops no key within its window', async () => {
    const used = new Set<number>();
    const stored: { key: string; ageMs: number }[] = [];
    // The ring turns late and at odd times, as with the timer of a broker.
    for (const [step, passedMs] of [
      5_000, 31_000, 8_000, 29_000, 40_000, 30_001, 30_001, 30_001, 7_000, 35_000,
    ].entries()) {
      const key = `k${step}`;
      await store(storage, [key]);
      used.add(await current());
      stored.push({ key, ageMs: 0 });
      time.pass(passedMs);
      for (const one of stored) one.ageMs += passedMs;
      await storage.commits.turnIdempotencyRing();
      const alive = stored.filter(({ ageMs }) => ageMs < windowMs).map((one) => one.key);
      expect(Object.keys(await find(stored.map((one) => one.key))).sort()).toEqual(alive.sort());
    }
    expect(used.size).toBe(ringTables);
    const left = await Promise.all(Array.from({ length: ringTables }, (_, table) => keysIn(table)));
    expect(left.reduce((sum, count) => sum + count)).toBeLessThan(stored.length);
  });

  test('the ring does not turn before half of the longest window, or for a broker that stores no keys', async () => {
    await store(storage, ['k']);
    const before = await current();
    await storage.commits.turnIdempotencyRing();
    expect(await current()).toBe(before);
    time.pass(windowMs);
    await storage.commits.turnIdempotencyRing();
    expect(await current()).toBe((before + 1) % ringTables);
    time.pass(windowMs);
    for (let turn = 0; turn < 3; turn++) await storage.commits.turnIdempotencyRing();
    expect(await current()).toBe((before + 1) % ringTables);
  });

  test('a fenced broker does not turn the ring', async () => {
    const before = await current();
    time.pass(windowMs);
    await expect(site.storage('one', 0).commits.turnIdempotencyRing()).rejects.toMatchObject({ kind: 'FENCED' });
    expect(await current()).toBe(before);
  });

  test('a reader of the old keys does not block publishers', async () => {
    await store(storage, ['k']);
    time.pass(windowMs);
    const reader = await site.session();
    await reader.query('BEGIN');
    await reader.query(`SELECT count(*) FROM millrace.idempotency_${((await current()) + 1) % ringTables}`);
    const before = await current();
    const turned = storage.commits.turnIdempotencyRing().catch((error: unknown) => error);
    const begun = performance.now();
    let turning = true;
    void turned.finally(() => (turning = false));
    for (let n = 0; turning; n++) {
      await store(storage, [`while ${n}`]);
      expect(await find([`while ${n}`])).not.toEqual({});
    }
    expect(performance.now() - begun).toBeLessThan(2_000);
    expect(await turned).toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    await reader.query('COMMIT');
    await storage.commits.turnIdempotencyRing();
    expect(await current()).toBe((before + 1) % ringTables);
  });
});

test('only one of several concurrent publishes with the same key is appended, even across a restart', async () => {
  const open = async (epoch: number): Promise<Publisher> => {
    storage = await site.own('one', epoch);
    const account = roomyAccount();
    const log = new Log({
      store: storage.log,
      clock: systemClock,
      codec: createBatchCodec(),
      account,
      owner: account.owner(),
      log: { info: () => undefined, warn: () => undefined },
    });
    log.open([topic]);
    const warn = () => undefined;
    return new Publisher({
      store: storage.commits,
      log,
      ring: new AckRing(),
      clock: systemClock,
      random: systemRandom,
      account,
      onFenced: warn,
      warn,
    });
  };
  const race = async (publisher: Publisher): Promise<string[]> => {
    const publish = async (key: string, partition: number) => {
      const records = selection(values(key)).set;
      const published = await publisher.publish({
        topic: topic.name,
        records,
        idempotencyKeys: [key],
        partition,
        committed: true,
        expectedOffset: null,
        lane: null,
        stream: null,
      });
      return `${key} ${published!.partitions[0]}:${published!.offsets[0]} ${published!.duplicates![0]}`;
    };
    const keys = Array.from({ length: 20 }, (_, n) => `k${n}`);
    // Each key is published three times to different partitions, so that its publishes meet in one
    // transaction and in several.
    return Promise.all(keys.flatMap((key, n) => [0, 1, 2].map((turn) => publish(key, (n + turn) % 3))));
  };
  const log = await open(3);
  const answers = await race(log);
  expect(answers.filter((answer) => answer.endsWith(' 0'))).toHaveLength(20);
  await log.drain();
  const restarted = await open(4);
  const places = (some: readonly string[]) => new Set(some.map((answer) => answer.slice(0, -2)));
  const again = await race(restarted);
  expect(again.every((answer) => answer.endsWith(' 1'))).toBe(true);
  expect([...places(again)].sort()).toEqual([...places(answers)].sort());
  expect(places(again).size).toBe(20);
  await restarted.drain();
  const stored = await Promise.all([0, 1, 2].map((partition) => readAll(storage, topic, partition)));
  expect(stored.flat()).toHaveLength(20);
});
