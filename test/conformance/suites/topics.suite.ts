import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SegmentMoved } from '../../../src/commit/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { batch, readAll, roll, transaction, values } from '../../log/records.ts';
import { dropAll } from '../../support/retention/drop-all.ts';
import { newTopic as createdTopic, type Stores, type StoreSite } from '../site.ts';

/** Topics with their partitions, as every TopicStore keeps them. */
export function describeTopics(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;

  beforeAll(async () => {
    site = await open();
    stores = await site.own();
  });

  afterAll(() => site.close());

  /** The age of the segment grows between two reads. */
  const ageless = (row: TopicRow): TopicRow => ({ ...row, segmentAgeMs: 0 });
  const newTopic = async (...wanted: Parameters<typeof createdTopic>) => ageless(await createdTopic(...wanted));
  const loaded = async (topicId: number): Promise<TopicRow | undefined> =>
    (await stores.topics.loadTopics()).map(ageless).find(({ id }) => id === topicId);
  const updated = async (...wanted: Parameters<Stores['topics']['updateTopic']>): Promise<TopicRow | null> => {
    const row = await stores.topics.updateTopic(...wanted);
    return row && ageless(row);
  };
  const grownTo = async (topicId: number, count: number): Promise<TopicRow | null> => {
    const row = await stores.topics.addPartitions(topicId, count);
    return row && ageless(row);
  };
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
      expect(await updated(topic.id, {})).toEqual(topic);
      const described = await updated(topic.id, { description: 'orders' });
      expect(described).toEqual({ ...topic, description: 'orders' });
      const changed = await updated(topic.id, { idempotencyWindowMs: 5_000 });
      expect(changed).toEqual({ ...topic, description: 'orders', idempotencyWindowMs: 5_000 });
      expect(await loaded(topic.id)).toEqual(changed);
      expect(await updated(topic.id + 1_000_000, { description: 'none' })).toBeNull();
    });

    test('two updates of different settings of retention lose neither, or one would revert the other', async () => {
      const topic = await newTopic(stores, 1);
      await Promise.all([
        updated(topic.id, { retention: { afterCompletionMs: 60_000, maxBytes: 1_000_000_000 } }),
        updated(topic.id, { retention: { keepUnsubscribedMs: null } }),
        updated(topic.id, { description: 'kept' }),
      ]);
      const retention = {
        ...topic.retention,
        afterCompletionMs: 60_000,
        maxBytes: 1_000_000_000,
        keepUnsubscribedMs: null,
      };
      expect(await loaded(topic.id)).toEqual({ ...topic, description: 'kept', retention });
      const forever = (await updated(topic.id, { retention: { afterCompletionMs: null } }))!;
      expect(forever.retention).toEqual({ ...retention, afterCompletionMs: null });
    });

    test('a topic that gets more partitions keeps its own, and the new ones begin at 0', async () => {
      const topic = await newTopic(stores, 2);
      await append(topic, 1, 'a', 'b');
      const grown = (await grownTo(topic.id, 5))!;
      expect(grown).toEqual({ ...topic, partitions: grown.partitions });
      expect(grown.partitions.slice(0, 2)).toEqual(topic.partitions);
      expect(grown.partitions.map(({ partition }) => partition)).toEqual([0, 1, 2, 3, 4]);
      expect(await append(grown, 4, 'x')).toBe(0);
      expect(await append(grown, 1, 'c')).toBe(2);
      expect((await stores.log.ends(topic.id)).map(({ endOffset }) => endOffset)).toEqual([0, 3, 0, 0, 1]);
      for (const count of [5, 3, 1]) expect(await grownTo(topic.id, count)).toEqual(grown);
      expect(await loaded(topic.id)).toEqual(grown);
      expect(await grownTo(topic.id + 1_000_000, 4)).toBeNull();
    });

    test('partitions that are added in a later segment lose no record in the segments after it', async () => {
      const topic = await newTopic(stores, 2);
      await append(topic, 0, 'a');
      await roll(stores, topic.id, 1);
      const grown = (await grownTo(topic.id, 3))!;
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
      for (const _ of ['once', 'again']) await dropAll(stores.retention);
      expect(await loaded(topic.id)).toBeUndefined();
      expect(await grownTo(topic.id, 4)).toBeNull();
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
