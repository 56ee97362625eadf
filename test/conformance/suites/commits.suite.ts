import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { AckTable } from '../../../src/commit/ack-ring.ts';
import { SegmentMoved, type AckRow } from '../../../src/commit/store.ts';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import type { CursorKey } from '../../../src/delivery/ports/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { startsAt } from '../../support/starts.ts';
import { batch, readAll, roll, transaction, values } from '../../log/records.ts';
import { cursorsOf, keysOf, newGroup, newTopic, type Stores, type StoreSite } from '../site.ts';
import { createIn } from '../../support/groups/group-writes.ts';

const windowMs = 60_000;

/** Transactions of batches, keys, settlements and receipts, as every CommitStore writes them. */
export function describeCommits(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;
  let topic: TopicRow;

  beforeAll(async () => {
    site = await open();
    stores = await site.own();
  });

  beforeEach(async () => {
    topic = await newTopic(stores, 3, { idempotencyWindowMs: windowMs });
  });

  afterAll(() => site.close());

  /** Appends one record for each key. */
  async function store(keys: readonly string[], partition = 0): Promise<number> {
    const records = values(...keys.map((key) => `of ${key}`));
    const stored = keys.map((key, index) => ({ topicId: topic.id, key, batch: 0, index }));
    const [appended] = await stores.commits.append(0, transaction([batch(topic, partition, records)], stored));
    return appended!.baseOffset;
  }

  async function find(keys: readonly string[], topicId = topic.id): Promise<Record<string, string>> {
    const hits = await stores.commits.findKeys(topicId, windowMs, keys);
    return Object.fromEntries([...hits].map(([key, hit]) => [key, `${hit.partition}:${hit.offset}`]));
  }

  describe('an idempotency key', () => {
    test('an idempotency key of any characters is found after a restart, with the place of its record', async () => {
      const odd = ['a', 'A', 'k\u0000', 'é'.repeat(128), '"\\{,}', ' ', "'; --", '\u{1f4a9}'];
      await store(['before', ...odd]);
      await store(['other partition'], 2);
      stores = await site.own();
      expect(await find([...odd, 'other partition', 'unknown'])).toEqual(
        Object.fromEntries([...odd.map((key, index) => [key, `0:${index + 1}`]), ['other partition', '2:0']]),
      );
    });

    test('an idempotency key points to its own record when a transaction has batches of several logs', async () => {
      await store(['shift']);
      const batches = [
        batch(topic, 0, values('a0', 'a1')),
        batch(topic, 0, values('b0')),
        batch(topic, 0, values('c0', 'c1', 'c2')),
        batch(topic, 1, values('d0', 'd1')),
      ];
      const places: readonly (readonly [string, number, number])[] = [
        ['a1', 0, 1],
        ['b0', 1, 0],
        ['c2', 2, 2],
        ['c0', 2, 0],
        ['d1', 3, 1],
      ];
      const keys = places.map(([key, at, index]) => ({ topicId: topic.id, key, batch: at, index }));
      await stores.commits.append(1, transaction(batches, keys));
      const hits = await find(keys.map(({ key }) => key));
      expect(hits).toEqual({ a1: '0:2', b0: '0:3', c0: '0:4', c2: '0:6', d1: '1:1' });
      const texts = (await readAll(stores, topic, 0)).map(({ offset, parts }) => [`0:${offset}`, parts[2]]);
      for (const key of ['a1', 'b0', 'c0', 'c2']) expect(texts).toContainEqual([hits[key], key]);
    });

    test('an idempotency key counts only in its own topic', async () => {
      const other = await newTopic(stores, 1);
      await store(['k']);
      expect(await find(['k'], other.id)).toEqual({});
    });

    test('an idempotency key is new again after its window, and then for a whole window', async () => {
      await store(['k']);
      site.pass(windowMs - 5_000);
      expect(await find(['k'])).toEqual({ k: '0:0' });
      site.pass(5_001);
      expect(await find(['k'])).toEqual({});
      expect(await store(['k'])).toBe(1);
      site.pass(windowMs - 5_000);
      expect(await find(['k'])).toEqual({ k: '0:1' });
    });

    test('an idempotency key stays for its whole window, however often and late the ring turns', async () => {
      const stored: { readonly key: string; readonly atMs: number }[] = [];
      for (const [step, passedMs] of [
        5_000, 31_000, 8_000, 29_000, 40_000, 30_001, 30_001, 30_001, 7_000, 35_000,
      ].entries()) {
        const key = `k${step}`;
        stored.push({ key, atMs: site.nowMs });
        await store([key]);
        site.pass(passedMs);
        await stores.commits.turnIdempotencyRing();
        const alive = stored.filter(({ atMs }) => site.nowMs - atMs < windowMs).map((one) => one.key);
        expect(Object.keys(await find(stored.map((one) => one.key))).sort()).toEqual(alive.sort());
      }
    });

    test('an idempotency key of a rejected append is not stored', async () => {
      await roll(stores, topic.id, 1);
      await expect(store(['k'])).rejects.toBeInstanceOf(SegmentMoved);
      expect(await find(['k'])).toEqual({});
    });
  });

  describe('a settlement', () => {
    let key: CursorKey;
    /** Receipts that no other test uses. */
    let receipts = 0;

    beforeEach(async () => {
      const { id: groupId } = await newGroup(stores);
      const [made] = await createIn(stores.groups, [{ groupId, topicId: topic.id, offsets: startsAt([0, 0, 0]) }]);
      [key] = keysOf(made!.id, 1) as [CursorKey];
    });

    const settle = (acked: number[], table: AckTable = 0): AckRow => ({
      table,
      deltas: [{ key, delta: { ...begunAt(0), acked } }],
      receipts: [`receipt-${++receipts}`],
    });
    const acked = async (): Promise<readonly number[]> => (await cursorsOf(stores, key.subscriptionId))[0]!.acked;

    test('a settlement is written with the batches of its transaction, and its receipt is only in its own table', async () => {
      const acks = settle([3, 4], 2);
      const [receipt] = acks.receipts as [string];
      expect(await stores.commits.hasReceipt(2, receipt)).toBe(false);
      const appended = await stores.commits.append(0, { ...transaction([batch(topic, 1, values('letter'))]), acks });
      expect(appended).toHaveLength(1);
      expect(await acked()).toEqual([3, 4]);
      expect((await readAll(stores, topic, 1)).map(({ parts }) => parts[2])).toEqual(['letter']);
      const found = await Promise.all(([0, 1, 2] as const).map((table) => stores.commits.hasReceipt(table, receipt)));
      expect(found).toEqual([false, false, true]);
    });

    test('a settlement without a batch is a transaction too', async () => {
      const acks = settle([5, 5]);
      expect(await stores.commits.append(0, { ...transaction([]), acks })).toEqual([]);
      expect(await acked()).toEqual([5, 5]);
      expect(await stores.commits.hasReceipt(0, acks.receipts[0]!)).toBe(true);
    });

    test('a settlement beside a rejected batch is not written, and leaves no receipt', async () => {
      await roll(stores, topic.id, 1);
      const acks = settle([7, 8]);
      const refused = stores.commits.append(0, { ...transaction([batch(topic, 0, values('x'))]), acks });
      await expect(refused).rejects.toBeInstanceOf(SegmentMoved);
      expect(await acked()).toEqual([]);
      expect(await stores.commits.hasReceipt(0, acks.receipts[0]!)).toBe(false);
    });

    test('a fenced broker writes no settlement and reads no receipt', async () => {
      const old = stores;
      stores = await site.own();
      const acks = settle([1, 2]);
      for (const write of [
        () => old.commits.append(0, { ...transaction([batch(topic, 0, values('x'))]), acks }),
        () => old.commits.append(0, { ...transaction([]), acks }),
        () => old.commits.hasReceipt(0, acks.receipts[0]!),
      ]) {
        await expect(write()).rejects.toMatchObject({ kind: 'FENCED' });
      }
      expect(await acked()).toEqual([]);
      expect(await readAll(stores, topic, 0)).toEqual([]);
    });
  });
}
