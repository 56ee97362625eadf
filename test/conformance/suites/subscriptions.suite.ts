import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { startsAt } from '../../support/starts.ts';
import { cursorsOf, findGroup, newGroup, newTopic, type Stores, type StoreSite } from '../site.ts';
import { cancelIn, createIn, endIn } from '../../support/groups/group-writes.ts';

/** Subscriptions and their first cursors, as every GroupStore and TopicStore keeps them. */
export function describeSubscriptions(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;
  let topic: TopicRow;
  let group: { readonly name: string; readonly id: number };

  beforeAll(async () => {
    site = await open();
    stores = await site.own();
  });

  beforeEach(async () => {
    topic = await newTopic(stores, 3);
    group = await newGroup(stores);
  });

  afterAll(() => site.close());

  const subscribe = async (...offsets: number[]): Promise<number> => {
    const wanted = [{ groupId: group.id, topicId: topic.id, offsets: startsAt(offsets) }];
    return (await createIn(stores.groups, wanted))[0]!.id;
  };
  const starts = async (subscriptionId: number): Promise<number[]> =>
    (await cursorsOf(stores, subscriptionId)).map(({ committedOffset }) => committedOffset);
  const grow = (count: number): Promise<TopicRow | null> => stores.topics.addPartitions(topic.id, count);

  describe('a subscription', () => {
    test('a subscription is created once with its cursors, and a second call finds it', async () => {
      const { id: groupId } = group;
      const other = await newTopic(stores, 1);
      const begunMs = site.nowMs;
      const wanted = [{ groupId, topicId: topic.id, offsets: startsAt([7, 0, 9]) }];
      const [made] = await createIn(stores.groups, wanted);
      expect(made).toMatchObject({ groupId, topicId: topic.id });
      expect(made!.createdAtMs).toBeGreaterThanOrEqual(Math.floor(begunMs));
      expect(made!.createdAtMs).toBeLessThanOrEqual(site.nowMs);
      site.pass(60_000);
      const again = await createIn(stores.groups, [
        { groupId, topicId: other.id, offsets: startsAt([5]) },
        { groupId, topicId: topic.id, offsets: startsAt([100, 100, 100]) },
        { groupId, topicId: other.id, offsets: startsAt([6]) },
      ]);
      expect(again.map(({ topicId }) => topicId)).toEqual([other.id, topic.id, other.id]);
      expect(again[1]).toEqual(made);
      expect(again[2]).toEqual(again[0]);
      expect((await findGroup(stores, group.name))?.subscriptions).toHaveLength(2);
      expect([await starts(made!.id), await starts(again[0]!.id)]).toEqual([[7, 0, 9], [5]]);
    });

    test('a cancelled subscription stays cancelled, and the next one of its group and topic is new', async () => {
      const first = await subscribe(7, 8, 9);
      for (const _ of ['once', 'again']) await cancelIn(stores.groups, first);
      expect((await findGroup(stores, group.name))?.subscriptions).toEqual([]);
      expect(await starts(first)).toEqual([]);
      const second = await subscribe(3, 3, 3);
      expect(second).not.toBe(first);
      expect(await starts(second)).toEqual([3, 3, 3]);
    });

    test('a subscription of a deleted topic is rejected, and nothing of its call is created', async () => {
      const { id: groupId } = group;
      const wanted = [
        { groupId, topicId: topic.id, offsets: startsAt([0]) },
        { groupId, topicId: topic.id + 1_000_000, offsets: startsAt([0]) },
      ];
      await expect(createIn(stores.groups, wanted)).rejects.toMatchObject({ kind: 'DATA_REFUSED' });
      expect((await findGroup(stores, group.name))?.subscriptions).toEqual([]);
    });

    test('a subscription of a deleted group is rejected', async () => {
      await endIn(stores.groups, group.id);
      await expect(subscribe(0, 0, 0)).rejects.toMatchObject({ kind: 'DATA_REFUSED' });
    });

    test('a subscription with starts from before its topic grew begins at 0 in the new partitions', async () => {
      expect(await starts(await subscribe(7, 9))).toEqual([7, 9, 0]);
    });

    test('a subscription and its cursors are deleted with their topic', async () => {
      const subscription = await subscribe(7, 8, 9);
      await stores.topics.deleteTopic(topic.id);
      expect((await findGroup(stores, group.name))?.subscriptions).toEqual([]);
      expect(await starts(subscription)).toEqual([]);
    });
  });

  describe('a subscription of a topic that grows', () => {
    test('a subscription begins at 0 in added partitions, and keeps its place in the others', async () => {
      const subscription = await subscribe(7, 8, 9);
      await grow(5);
      expect(await starts(subscription)).toEqual([7, 8, 9, 0, 0]);
      await grow(5);
      expect(await starts(subscription)).toEqual([7, 8, 9, 0, 0]);
    });

    test('a cancelled subscription does not come back when its topic grows', async () => {
      const subscription = await subscribe(7, 8, 9);
      await cancelIn(stores.groups, subscription);
      await grow(5);
      expect(await starts(subscription)).toEqual([]);
    });

    test('acks in an added partition survive a fold and a takeover', async () => {
      const subscription = await subscribe(0, 0, 0);
      await grow(4);
      const key = { subscriptionId: subscription, partition: 3, lane: 0 };
      const cursor = { ...begunAt(5), acked: [7, 8] };
      await stores.commits.appendAcks({ table: 0, deltas: [{ key, delta: cursor }], receipts: [] });
      stores = await site.own();
      expect((await cursorsOf(stores, subscription))[3]).toEqual(cursor);
      await stores.groups.fold(1, () => [{ key, cursor }]);
      stores = await site.own();
      expect((await cursorsOf(stores, subscription))[3]).toEqual(cursor);
    });
  });
}
