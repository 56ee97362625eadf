import { beforeEach, describe, expect, test } from 'vitest';
import type { Account } from '../../../src/account/account.ts';
import type { KindName } from '../../../src/account/kinds.ts';
import { weights } from '../../../src/account/weights.ts';
import { subscriptionBytes } from '../../../src/delivery/kept/sizes.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { roomyAccount, smallAccount } from '../../account/accounts.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene } from '../scene.ts';

const full = { reason: 'BROKER_FULL' };
const keptKinds: readonly KindName[] = ['groups', 'members', 'cursors', 'notes', 'holes', 'attempts'];

function bytesOf(account: Account): Record<string, number> {
  return Object.fromEntries(keptKinds.map((name) => [name, account.kind(name).bytes]));
}
const nothing = Object.fromEntries(keptKinds.map((name) => [name, 0]));

async function open(account: Account): Promise<Scene> {
  const scene = await Scene.open({ account });
  scene.addTopic('orders', 10);
  scene.addTopic('returns', 10);
  return scene;
}

const created = (scene: Scene, group: string, topic = 'orders'): Promise<unknown> =>
  scene.wait(scene.delivery.subscriptions.create({ group, topic, start: { type: 'earliest' } }));

describe('what has no room', () => {
  test.each([
    ['groups', { groups: weights.group }],
    ['members', { members: weights.member }],
    ['cursors of a new subscription', { cursors: 10 * weights.cursor + weights.subscription }],
  ])('a join without room for its %s leaves a part of itself behind', async (_what, limits) => {
    const scene = await open(smallAccount(limits));
    await expect(scene.wait(scene.join('billing'))).rejects.toMatchObject(full);
    await expect(scene.subscribe('billing')).rejects.toMatchObject(full);
    await expect(scene.wait(scene.pull('billing'))).rejects.toMatchObject(full);
    expect(bytesOf(scene.account)).toEqual(nothing);
    expect(scene.delivery.views.names({ states: [], topic: null })).toEqual([]);
    expect(scene.store.shared.groups).toEqual([]);
    expect(scene.store.shared.cursors.size).toBe(0);
  });

  test('members that join a new group at once are refused, because each reserves the same cursors', async () => {
    const scene = await open(smallAccount({ cursors: 2 * subscriptionBytes(10) + 20 * weights.heldCursor }));
    await scene.wait(Promise.all(Array.from({ length: 20 }, (_, at) => scene.join('billing', { clientId: `c${at}` }))));
    expect(scene.account.kind('cursors').bytes).toBe(subscriptionBytes(10) + 10 * weights.heldCursor);
  });

  test('a subscription without room for its cursors leaves its group behind', async () => {
    const scene = await open(smallAccount({ cursors: 10 * weights.cursor }));
    await expect(created(scene, 'billing')).rejects.toMatchObject(full);
    expect(bytesOf(scene.account)).toEqual(nothing);
    expect(scene.store.shared.groups).toEqual([]);
  });

  test('a member that rejoins with more metadata than there is room for is not as it was before', async () => {
    const scene = await open(smallAccount({ members: 2 * weights.member }));
    const { memberId } = await scene.join('billing', { metadata: Buffer.alloc(1_000) });
    const before = bytesOf(scene.account);
    const changed = scene.join('billing', { memberId, metadata: Buffer.alloc(5_000), topics: ['returns'] });
    await expect(scene.wait(changed)).rejects.toMatchObject(full);
    expect(bytesOf(scene.account)).toEqual(before);
    expect(scene.store.shared.cursors.size).toBe(10);
    await scene.join('billing', { memberId, metadata: Buffer.alloc(10) });
    expect(scene.account.kind('members').bytes).toBe(before['members']! - 990);
  });

  test('a new process of an instance cannot take the place of the old one in a full broker', async () => {
    const scene = await open(smallAccount({ members: weights.member + 200 }));
    await scene.join('billing', { instanceId: 'one' });
    const before = bytesOf(scene.account);
    await scene.join('billing', { instanceId: 'one' });
    expect(bytesOf(scene.account)).toEqual(before);
  });

  test('a subscription that its group had cancelled comes back without room for what its members hold', async () => {
    const scene = await open(smallAccount({ cursors: subscriptionBytes(10) + 10 * weights.heldCursor - 1 }));
    await created(scene, 'billing');
    await scene.wait(scene.delivery.subscriptions.cancel('billing', 'orders'));
    await scene.wait(scene.join('billing', { topics: [] }));
    await expect(created(scene, 'billing')).rejects.toMatchObject(full);
    expect(scene.account.kind('cursors').bytes).toBe(0);
  });

  test('new partitions are taken although the subscriptions of the topic have no room for their cursors', async () => {
    const scene = await open(smallAccount({ cursors: 3 * (10 * weights.cursor + weights.subscription) }));
    await created(scene, 'billing');
    await created(scene, 'shipping');
    expect(() => scene.delivery.reserveGrowth(1, 6)).toThrow(expect.objectContaining(full) as Error);
    const reserved = scene.delivery.reserveGrowth(1, 5);
    scene.growTopic('orders', 15);
    await scene.wait(scene.delivery.topicGrown(1));
    reserved.release();
    expect(scene.account.kind('cursors').bytes).toBe(2 * (15 * weights.cursor + weights.subscription));
  });
});

test('a commit of offsets whose notes have no room is taken in part, or keeps shorter notes from coming', async () => {
  const scene = await open(smallAccount({ notes: 10 * (weights.note + 100) }));
  await created(scene, 'billing');
  const commit = (chars: number): Promise<unknown> => {
    const offsets = Array.from({ length: 10 }, (_, partition) => {
      return { topic: 'orders', partition, lane: 0, offset: 0, metadata: 'n'.repeat(chars) };
    });
    return scene.wait(scene.delivery.offsets.commit({ group: 'billing', member: null, offsets }));
  };
  await commit(100);
  const kept = bytesOf(scene.account);
  expect(kept['notes']).toBe(10 * (weights.note + 100));
  await expect(commit(101)).rejects.toMatchObject(full);
  expect(bytesOf(scene.account)).toEqual(kept);
  await commit(50);
  await commit(100);
  await commit(0);
  expect(scene.account.kind('notes').bytes).toBe(0);
});

describe('what is gone', () => {
  let scene: Scene;
  beforeEach(async () => {
    scene = await open(roomyAccount());
  });

  test('a group that was deleted is still counted', async () => {
    const stream = await scene.subscribe('billing', { metadata: Buffer.alloc(9) });
    expect(scene.account.kind('cursors').bytes).toBe(weights.subscription + 10 * (weights.cursor + weights.heldCursor));
    expect(scene.account.kind('members').bytes).toBeGreaterThan(weights.member);
    stream.stream!.closed('CANCELLED');
    await scene.clock.settle();
    expect(scene.account.kind('cursors').bytes).toBe(weights.subscription + 10 * weights.cursor);
    expect(scene.account.kind('members').bytes).toBe(0);
    await scene.wait(scene.delivery.deleteGroup('billing'));
    expect(bytesOf(scene.account)).toEqual(nothing);
  });

  test('a member that expired is still counted', async () => {
    await scene.join('billing');
    const { memberId } = await scene.join('billing');
    await scene.wait(scene.delivery.membership.leave('billing', memberId));
    await scene.clock.advance(40_000);
    expect(scene.delivery.views.counts().members).toBe(0);
    expect(scene.account.kind('members').bytes).toBe(0);
  });

  test('cursors of a topic that was deleted, or of a subscription that was cancelled, are still counted', async () => {
    await scene.subscribe('billing', { topics: ['orders', 'returns'] });
    const one = weights.subscription + 10 * (weights.cursor + weights.heldCursor);
    expect(scene.account.kind('cursors').bytes).toBe(2 * one);
    await scene.wait(scene.delivery.deleteTopic(1, async () => undefined));
    expect(scene.account.kind('cursors').bytes).toBe(one);
    await scene.wait(scene.delivery.subscriptions.cancel('billing', 'returns'));
    expect(scene.account.kind('cursors').bytes).toBe(0);
  });

  test('a join whose group could not be created is still counted', async () => {
    scene.store.before = (write) => {
      if (write === 'createGroup') throw new Fault('DATABASE_UNAVAILABLE', 'away');
    };
    await expect(scene.wait(scene.join('billing'))).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    expect(bytesOf(scene.account)).toEqual(nothing);
  });

  test('what cursors keep is still counted after their acks, or after their group', async () => {
    scene.topics.get('orders')![0]!.append(20);
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { runs: [2, 2, 4, 4] });
    await scene.ack('billing', stream, { action: 'NACK', runs: [6, 6, 8, 8] });
    expect(bytesOf(scene.account)).toMatchObject({ holes: 2 * weights.hole, attempts: 2 * weights.attemptRun });
    await scene.ack('billing', stream, { runs: [0, 3] });
    expect(scene.account.kind('holes').bytes).toBe(0);
    stream.stream!.closed('CANCELLED');
    await scene.clock.settle();
    await scene.wait(scene.delivery.deleteGroup('billing'));
    expect(bytesOf(scene.account)).toEqual(nothing);
  });

  test('a broker that was replaced still counts what it kept, or counts what it does afterwards', async () => {
    await scene.subscribe('billing');
    const stopping = scene.delivery.stop();
    scene.owner.close();
    expect(bytesOf(scene.account)).toEqual(nothing);
    await expect(created(scene, 'shipping')).rejects.toMatchObject({ reason: 'NOT_OWNER' });
    await stopping;
    expect(bytesOf(scene.account)).toEqual(nothing);
  });
});

describe('after a restart', () => {
  /** The next broker, of which no group is loaded yet. */
  async function successor(before: Scene, account: Account): Promise<{ next: Scene; load: () => Promise<void> }> {
    before.store.shared.epoch++;
    const store = new MemoryGroupStore(before.store.shared);
    const gate = Promise.withResolvers<void>();
    store.beforeRead = (read) => (read === 'readAckLog' ? gate.promise : undefined);
    const { clock, topics } = before;
    const next = new Scene({ store, clock, topics, account, seed: 'next' });
    await next.delivery.open();
    const load = async (): Promise<void> => {
      gate.resolve();
      await next.wait(next.delivery.allLoaded());
    };
    return { next, load };
  }

  test('groups that are not loaded yet are not counted, or are counted twice when they are loaded', async () => {
    const before = await open(roomyAccount());
    before.topics.get('orders')![0]!.append(20);
    const member = await before.join('billing', { sessionTimeoutMs: 1_800_000, metadata: Buffer.alloc(100) });
    await created(before, 'shipping', 'returns');
    await before.wait(
      before.delivery.offsets.commit({
        group: 'shipping',
        member: null,
        offsets: [{ topic: 'returns', partition: 0, lane: 0, offset: 0, metadata: 'a note' }],
      }),
    );
    expect(member.memberId).toBeDefined();
    const kept = bytesOf(before.account);
    const { next, load } = await successor(before, roomyAccount());
    // What only the ack log has is not counted before it is read.
    expect(bytesOf(next.account)).toMatchObject({ groups: kept['groups'], cursors: kept['cursors'] });
    expect(Math.abs(next.account.kind('members').bytes - kept['members']!)).toBeLessThan(50);
    await load();
    expect(bytesOf(next.account)).toEqual(kept);
  });

  test('what the ack log has of a group is not counted until its load, or is counted twice after it', async () => {
    const before = await open(roomyAccount());
    before.topics.get('orders')![0]!.append(20);
    const stream = await before.subscribe('billing', { sessionTimeoutMs: 1_800_000 });
    await before.ack('billing', stream, { runs: [2, 2, 4, 4] });
    await before.ack('billing', stream, { action: 'NACK', runs: [6, 6] });
    const kept = bytesOf(before.account);
    const { next, load } = await successor(before, roomyAccount());
    next.store.beforeRead = (read) => {
      if (read === 'loadGroups') counted.push(bytesOf(next.account));
    };
    const counted: Record<string, number>[] = [];
    await load();
    const found = { holes: kept['holes'], attempts: weights.attemptRun };
    expect(counted).toMatchObject([found]);
    expect(bytesOf(next.account)).toMatchObject(found);
  });

  test('a broker takes new groups in its first second, although those that it has not loaded fill it', async () => {
    const before = await open(roomyAccount());
    for (const group of ['a', 'b', 'c']) await created(before, group);
    const { next, load } = await successor(
      before,
      smallAccount({ cursors: 3 * (weights.subscription + 10 * weights.cursor) }),
    );
    await expect(created(next, 'd')).rejects.toMatchObject(full);
    expect(() => next.delivery.reserveGrowth(1, 1)).toThrow(expect.objectContaining(full) as Error);
    await load();
    await expect(created(next, 'd')).rejects.toMatchObject(full);
    await next.wait(next.delivery.deleteGroup('a'));
    await created(next, 'd');
  });
});
