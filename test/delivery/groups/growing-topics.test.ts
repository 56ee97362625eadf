import { beforeEach, describe, expect, test } from 'vitest';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';
import { allCursors } from '../../conformance/loads.ts';

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 4);
});

/** Gives the topic so many partitions, in the database, in the log and in the groups. */
async function grow(partitions: number): Promise<void> {
  logs = scene.growTopic('orders', partitions);
  await scene.wait(scene.delivery.topicGrown(1));
  await scene.clock.settle();
}

const latest = { type: 'latest' } as const;

/** "partition: offsets" of all delivered records. */
function came(stream: FakeStream): string[] {
  return stream.batches.map(({ partition, offsets }) => `${partition}: ${offsets.join(' ')}`).toSorted();
}

/** The stored committed offsets of the first subscription, by partition. */
async function stored(): Promise<number[]> {
  const cursors = await allCursors(new MemoryGroupStore(scene.store.shared));
  const own = cursors.filter(({ key }) => key.subscriptionId === 1);
  return own
    .toSorted((a, b) => a.key.partition - b.key.partition)
    .map(({ key, cursor }, index) => {
      expect(key.partition).toBe(index);
      return cursor.committedOffset;
    });
}

describe('running members', () => {
  test('running members share the new partitions of a topic, and keep their old ones without a pause', async () => {
    const members = [await scene.subscribe('billing'), await scene.subscribe('billing')];
    const before = members.map(({ assigned, generation, events }) => ({ assigned, generation, told: events.length }));
    for (const log of logs) log.append(1);
    await scene.clock.settle();
    // The rebalance is decided but not durable yet.
    const written = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'saveGroups' ? written.promise : undefined);
    const growing = grow(6);
    await scene.clock.settle();
    for (const log of logs.slice(0, 4)) log.append(1);
    await scene.clock.settle();
    for (const [i, member] of members.entries()) {
      const { assigned, generation } = before[i]!;
      expect(came(member)).toEqual(assigned.flatMap((partition) => [`${partition}: 0`, `${partition}: 1`]));
      const held = { memberId: member.memberId, generation };
      expect(await scene.ack('billing', held, { partition: assigned[0]!, upToOffset: 1 })).toMatchObject({
        status: 'OK',
        committedOffset: 2,
      });
    }
    written.resolve();
    await growing;
    expect(members.map(({ assigned }) => assigned.length)).toEqual([3, 3]);
    for (const [i, member] of members.entries()) {
      expect(member.assigned).toEqual(expect.arrayContaining(before[i]!.assigned));
      expect(member.events.slice(before[i]!.told).map(({ type }) => type)).not.toContain('revoking');
      expect(member.generation).toBe(before[i]!.generation + 1);
    }
    expect(members.flatMap(({ assigned }) => assigned).toSorted()).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('members get records that were published to a new partition before its assignment', async () => {
    const member = await scene.subscribe('billing', { start: latest });
    logs = scene.growTopic('orders', 5);
    logs[4]!.append(2);
    await scene.wait(scene.delivery.topicGrown(1));
    await scene.clock.settle();
    logs[4]!.append(1);
    await scene.clock.settle();
    expect(came(member)).toEqual(['4: 0 1', '4: 2']);
    expect((await scene.ack('billing', member, { partition: 4, upToOffset: 2 })).committedOffset).toBe(3);
  });

  test('members that pull get the new partitions of a topic too', async () => {
    const { memberId } = await scene.wait(scene.pull('billing'));
    await grow(5);
    logs[4]!.append(2);
    const { fields } = await scene.wait(scene.pull('billing', { memberId }));
    expect(fields).toHaveLength(1);
  });

  test('a repeated growth of a topic does not disturb its members', async () => {
    const member = await scene.subscribe('billing');
    await grow(6);
    const { generation, events } = member;
    const told = events.length;
    await grow(6);
    expect([member.generation, member.events.length]).toEqual([generation, told]);
    expect(logs.map((log) => log.listeners)).toEqual([1, 1, 1, 1, 1, 1]);
  });
});

test('a member that joins after a growth gets the new partitions from 0, whatever start position it names', async () => {
  for (const log of logs) log.append(3);
  await scene.wait(scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: latest }));
  await grow(5);
  logs[4]!.append(2);
  logs[0]!.append(1);
  const member = await scene.subscribe('billing', { start: latest });
  expect(came(member)).toEqual(['0: 3', '4: 0 1']);
});

test('the growth of a topic does not revive a cancelled subscription', async () => {
  await scene.wait(scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: latest }));
  await scene.delivery.subscriptions.cancel('billing', 'orders');
  await grow(6);
  expect(scene.describe('billing').partitions).toEqual([]);
  expect(logs[5]!.listeners).toBe(0);
});

describe('a group that subscribes while the topic grows has every partition once, and the store agrees', () => {
  const moments = ['before', 'after'] as const;

  test.each(moments)(
    'a topic that grows %s the database creates a subscription gives the group every partition once',
    async (moment) => {
      for (const log of logs) log.append(3);
      const made = Promise.withResolvers<void>();
      scene.store[moment] = (write) => (write === 'createSubscriptions' ? made.promise : undefined);
      const joining = scene.subscribe('billing', { start: latest });
      await scene.clock.settle();
      await grow(6);
      made.resolve();
      const member = await joining;
      for (const log of logs) log.append(1);
      await scene.clock.settle();
      expect(member.assigned).toEqual([0, 1, 2, 3, 4, 5]);
      expect(came(member)).toEqual(['0: 3', '1: 3', '2: 3', '3: 3', '4: 0', '5: 0']);
      expect(logs.map((log) => log.listeners)).toEqual([1, 1, 1, 1, 1, 1]);
      expect(await stored()).toEqual([3, 3, 3, 3, 0, 0]);
    },
  );

  test('a topic whose growth reaches the log after the subscription was created gives the group every partition once', async () => {
    const grown = [...scene.growTopic('orders', 6)];
    // The database has the new partitions, and the log does not have them yet.
    scene.topics.set('orders', logs);
    const member = await scene.subscribe('billing', { start: latest });
    expect(member.assigned).toEqual([0, 1, 2, 3]);
    scene.topics.set('orders', grown);
    await scene.wait(scene.delivery.topicGrown(1));
    await scene.clock.settle();
    expect(member.assigned).toEqual([0, 1, 2, 3, 4, 5]);
    expect(await stored()).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test('a repeated creation of a subscription, after a lost answer, gives the group every partition once', async () => {
    for (const log of logs) log.append(3);
    let lost = false;
    scene.store.after = (write) => {
      if (write !== 'createSubscriptions' || lost) return;
      lost = true;
      throw new Error('lost');
    };
    await expect(scene.subscribe('billing', { start: latest })).rejects.toThrow('lost');
    await grow(6);
    logs[5]!.append(1);
    const member = await scene.subscribe('billing', { start: latest });
    expect(came(member)).toEqual(['5: 0']);
    expect(await stored()).toEqual([3, 3, 3, 3, 0, 0]);
  });
});

test('the successor of a broker that died between the commit of a growth and its memory has every partition', async () => {
  const member = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
  scene.growTopic('orders', 6)[5]!.append(2);
  scene.store.shared.epoch++;
  const store = new MemoryGroupStore(scene.store.shared);
  const { clock, topics } = scene;
  scene = await Scene.open({ store, clock, topics, seed: 'next' });
  const again = await scene.subscribe('billing', { memberId: member.memberId });
  expect(again.assigned).toEqual([0, 1, 2, 3, 4, 5]);
  expect(came(again)).toEqual(['5: 0 1']);
  await scene.ack('billing', again, { partition: 5, upToOffset: 1 });
  expect(await stored()).toEqual([0, 0, 0, 0, 0, 2]);
});
