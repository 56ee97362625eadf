import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SegmentMoved } from '../../../src/commit/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { batch, readAll, roll, transaction, values } from '../../log/records.ts';
import { newTopic, type Stores, type StoreSite } from '../site.ts';

/** Topics with their partitions, as every TopicStore keeps them. */
export function describeTopics(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;

  beforeAll(async () => {
    site = await open();
    stores = await site.own();
  });

  afterAll(() => site.close());

  const loaded = async (topicId: number): Promise<TopicRow | undefined> =>
    (await stores.topics.loadTopics()).find(({ id }) => id === topicId);
  const append = async (at: TopicRow, partition: number, ...texts: string[]): Promise<number> =>
    (await stores.commits.append(0, transaction([batch(at, partition, values(...texts))])))[0]!.baseOffset;

  describe('a topic', () => {
    test('a created topic is read back with its partitions in order, and its name is taken', async () => {
      const begunMs = site.nowMs;
      const topic = await newTopic(stores, 3, { idempotencyWindowMs: 77_000 });
      expect(topic).toMatchObject({ semantics: 'PUB_SUB', description: 'of a test', segment: 1 });
      expect(topic).toMatchObject({ idempotencyWindowMs: 77_000 });
      expect(topic.createdAtMs).toBeGreaterThanOrEqual(Math.floor(begunMs));
      expect(topic.createdAtMs).toBeLessThanOrEqual(site.nowMs);
      expect(topic.partitions.map(({ partition }) => partition)).toEqual([0, 1, 2]);
      expect(await loaded(topic.id)).toEqual(topic);
      await expect(newTopic(stores, 1, { name: topic.name })).rejects.toThrow('already there');
      expect(await loaded(topic.id)).toEqual(topic);
    });

    test('an update of a topic changes only the fields that it names', async () => {
      const topic = await newTopic(stores, 1);
      expect(await stores.topics.updateTopic(topic.id, {})).toEqual(topic);
      const described = await stores.topics.updateTopic(topic.id, { description: 'orders' });
      expect(described).toEqual({ ...topic, description: 'orders' });
      const changed = await stores.topics.updateTopic(topic.id, { idempotencyWindowMs: 5_000 });
      expect(changed).toEqual({ ...topic, description: 'orders', idempotencyWindowMs: 5_000 });
      expect(await loaded(topic.id)).toEqual(changed);
      expect(await stores.topics.updateTopic(topic.id + 1_000_000, { description: 'none' })).toBeNull();
    });

    test('a topic that gets more partitions keeps its own, and the new ones begin at 0', async () => {
      const topic = await newTopic(stores, 2);
      await append(topic, 1, 'a', 'b');
      const grown = (await stores.topics.addPartitions(topic.id, 5))!;
      expect(grown).toEqual({ ...topic, partitions: grown.partitions });
      expect(grown.partitions.slice(0, 2)).toEqual(topic.partitions);
      expect(grown.partitions.map(({ partition }) => partition)).toEqual([0, 1, 2, 3, 4]);
      expect(await append(grown, 4, 'x')).toBe(0);
      expect(await append(grown, 1, 'c')).toBe(2);
      expect((await stores.log.ends(topic.id)).map(({ endOffset }) => endOffset)).toEqual([0, 3, 0, 0, 1]);
      for (const count of [5, 3, 1]) expect(await stores.topics.addPartitions(topic.id, count)).toEqual(grown);
      expect(await loaded(topic.id)).toEqual(grown);
      expect(await stores.topics.addPartitions(topic.id + 1_000_000, 4)).toBeNull();
    });

    test('partitions that are added in a later segment lose no record in the segments after it', async () => {
      const topic = await newTopic(stores, 2);
      await append(topic, 0, 'a');
      await roll(stores, topic.id, 1);
      const grown = (await stores.topics.addPartitions(topic.id, 3))!;
      expect(grown.segment).toBe(2);
      expect(await append(grown, 2, 'x', 'y')).toBe(0);
      await roll(stores, topic.id, 2);
      site.pass(60_000);
      expect(await append({ ...grown, segment: 3 }, 2, 'z')).toBe(2);
      stores = await site.own();
      const read = await readAll(stores, topic, 2);
      expect(read.map(({ offset, parts }) => `${offset}:${parts[2]}`)).toEqual(['0:x', '1:y', '2:z']);
      expect(await stores.log.offsetAtTime(topic.id, 2, 0, read[2]!.appendTimeUs)).toBe(2);
    });

    test('a deleted topic has no records, takes no append and leaves no key, and other topics keep theirs', async () => {
      const [topic, other] = [await newTopic(stores, 1), await newTopic(stores, 1)];
      for (const one of [topic, other]) {
        const keys = [{ topicId: one.id, key: 'k', batch: 0, index: 0 }];
        await stores.commits.append(0, transaction([batch(one, 0, values('x'))], keys));
        await roll(stores, one.id, 1);
      }
      expect(await readAll(stores, topic, 0)).toHaveLength(1);
      await stores.topics.deleteTopic(topic.id);
      for (const _ of ['once', 'again']) await stores.topics.dropSegments();
      expect(await loaded(topic.id)).toBeUndefined();
      expect(await stores.topics.addPartitions(topic.id, 4)).toBeNull();
      expect(await stores.commits.findKeys(topic.id, 60_000, ['k'])).toEqual(new Map());
      expect(await stores.log.ends(topic.id)).toEqual([]);
      expect(await readAll(stores, topic, 0)).toEqual([]);
      expect(await stores.log.offsetAtTime(topic.id, 0, 0, 0)).toBeNull();
      expect(await stores.log.appendAges(topic.id, [{ partition: 0, lane: 0, offset: 0 }])).toEqual([null]);
      await expect(append({ ...topic, segment: 2 }, 0, 'y')).rejects.toBeInstanceOf(SegmentMoved);
      await expect(roll(stores, topic.id, 2)).rejects.toMatchObject({ reason: 'TOPIC_NOT_FOUND' });
      expect((await readAll(stores, other, 0)).map(({ parts }) => parts[2])).toEqual(['x']);
      expect((await stores.commits.findKeys(other.id, 60_000, ['k'])).size).toBe(1);
      await stores.topics.deleteTopic(topic.id);
    });
  });

  test('a fenced broker changes no topic', async () => {
    const topic = await newTopic(stores, 1);
    const old = stores;
    stores = await site.own();
    for (const write of [
      () => newTopic(old, 1),
      () => old.topics.updateTopic(topic.id, { description: 'stale' }),
      () => old.topics.addPartitions(topic.id, 4),
      () => old.topics.deleteTopic(topic.id),
    ]) {
      await expect(write()).rejects.toMatchObject({ kind: 'FENCED' });
    }
    expect(await loaded(topic.id)).toEqual(topic);
  });
}
