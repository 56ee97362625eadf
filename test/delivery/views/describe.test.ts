import { beforeEach, describe, expect, test, vi } from 'vitest';
import { Cursor } from '../../../src/consumption/partitioned/cursor.ts';
import { Group, type MemberId } from '../../../src/coordinator/group.ts';
import { rebalanceFields } from '../../../src/delivery/groups/rebalance-fields.ts';
import { limits } from '../../../src/limits/limits.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene, type FakeLog } from '../scene.ts';

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 2);
});

const all = { states: [], topic: null };
const gathered = (): Promise<void> => scene.clock.advance(limits.rebalanceGatherMs);

/** Creates a group whose only member has left. */
async function withoutMembers(group: string): Promise<void> {
  const stream = await scene.subscribe(group);
  stream.stream!.closed('CONNECTION_LOST');
  await scene.clock.settle();
}

describe('how far a group is', () => {
  test('a view shows for each partition its progress, its member, and the records in flight', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 3 });
    logs[0]!.append(5);
    await scene.clock.settle();
    await scene.ack('billing', stream, { runs: [0, 0] });
    const [first, second] = scene.describe('billing').partitions;
    const { memberId } = stream;
    const inFlightRecords = stream.offsets.length - 1;
    expect(inFlightRecords).toBeGreaterThan(0);
    expect(inFlightRecords).toBeLessThan(3);
    expect(first).toMatchObject({ memberId, committedOffset: 1, highWatermark: 5, lag: 4, inFlightRecords });
    expect(second).toMatchObject({ memberId, committedOffset: 0, lag: 0, inFlightRecords: 0, blockedOn: 'CAUGHT_UP' });
    expect([first!.oldestUnackedAgeMs, second!.oldestUnackedAgeMs]).toEqual([null, null]);
  });

  test('a view does not show a partition with a member that has left', async () => {
    await withoutMembers('billing');
    logs[1]!.append(2);
    const { group, partitions } = scene.describe('billing');
    expect(group).toMatchObject({ state: 'EMPTY', memberCount: 0, lag: 2, inFlightRecords: 0 });
    expect(partitions).toMatchObject([
      { memberId: null, blockedOn: 'NO_ASSIGNMENT' },
      { memberId: null, lag: 2, blockedOn: 'NO_ASSIGNMENT' },
    ]);
  });

  test('a view and a summary agree on the lag of all topics, with records acked out of order', async () => {
    const [invoices] = scene.addTopic('invoices', 1);
    const stream = await scene.subscribe('billing', { topics: ['orders', 'invoices'] });
    logs[0]!.append(4);
    logs[1]!.append(1);
    invoices!.append(3);
    await scene.clock.settle();
    await scene.ack('billing', stream, { runs: [2, 3] });
    const { group, partitions } = scene.describe('billing');
    expect(group).toMatchObject({ lag: 2 + 1 + 3, inFlightRecords: 2 + 1 + 3 });
    expect(partitions.map(({ topic, lag }) => [topic, lag])).toEqual([
      ['invoices', 3],
      ['orders', 2],
      ['orders', 1],
    ]);
    expect(scene.delivery.views.summary('billing')).toEqual(group);
  });
});

describe('a list of groups', () => {
  beforeEach(async () => {
    scene.addTopic('invoices', 1);
    await scene.subscribe('shipping');
    await withoutMembers('billing');
    await scene.subscribe('audit', { topics: ['invoices', 'orders'] });
  });

  test('a list of groups filters by topic, by state, and by both, ordered by name', () => {
    const { delivery } = scene;
    expect(delivery.views.names(all)).toEqual(['audit', 'billing', 'shipping']);
    expect(delivery.views.names({ ...all, topic: 'orders' })).toEqual(['audit', 'billing', 'shipping']);
    expect(delivery.views.names({ ...all, topic: 'invoices' })).toEqual(['audit']);
    expect(delivery.views.names({ ...all, topic: 'nowhere' })).toEqual([]);
    expect(delivery.views.names({ ...all, states: ['EMPTY'] })).toEqual(['billing']);
    expect(delivery.views.names({ ...all, states: ['EMPTY', 'STABLE'] })).toEqual(['audit', 'billing', 'shipping']);
    expect(delivery.views.names({ states: ['STABLE'], topic: 'invoices' })).toEqual(['audit']);
    expect(delivery.views.names({ states: ['COMPLETING_REBALANCE'], topic: null })).toEqual([]);
  });

  test('a list of groups of a topic leaves out groups that have cancelled their subscription', async () => {
    await scene.wait(scene.delivery.subscriptions.cancel('audit', 'invoices'));
    expect(scene.delivery.views.names({ ...all, topic: 'invoices' })).toEqual([]);
  });
});

test('members are shown in the order of their ids, with the generation of their partitions', async () => {
  await scene.subscribe('billing', { clientId: 'b' });
  await gathered();
  await scene.subscribe('billing', { clientId: 'a' });
  await scene.clock.settle();
  const { generation, members } = scene.describe('billing');
  expect(members.map(({ clientId, partitions }) => [clientId, partitions.length])).toEqual([
    ['a', 1],
    ['b', 1],
  ]);
  expect(generation).toBe(scene.describe('billing').group.generation);
  expect(() => scene.delivery.views.describe('nobody')).toThrow(expect.objectContaining({ reason: 'GROUP_NOT_FOUND' }));
});

describe('a rebalance', () => {
  test('a rebalance is one line of the log, with its reason and its moves, and a call returns the same', async () => {
    const first = await scene.subscribe('billing', { clientId: 'one' });
    await gathered();
    const second = await scene.subscribe('billing', { clientId: 'two' });
    await scene.clock.settle();
    const joined = (memberId: MemberId) => [{ reason: 'MEMBER_JOINED', memberId }];
    expect(scene.said).toEqual([
      {
        message: 'rebalanced',
        group: 'billing',
        generation: 1,
        causes: joined(first.memberId),
        durationMs: 0,
        members: 1,
        assigned: 2,
        revoked: 0,
        completed: true,
      },
      {
        message: 'rebalanced',
        group: 'billing',
        generation: 2,
        causes: joined(second.memberId),
        durationMs: 0,
        members: 2,
        assigned: 1,
        revoked: 1,
        completed: true,
      },
    ]);
    const kept = await scene.delivery.views.rebalances('billing');
    expect(kept).toMatchObject([
      { generation: 2, causes: [{ reason: 'MEMBER_JOINED', memberId: second.memberId, count: 1 }], revokedCount: 1 },
      { generation: 1, causes: [{ reason: 'MEMBER_JOINED', memberId: first.memberId, count: 1 }], assignedCount: 2 },
    ]);
  });

  test('a rebalance lasts until its members have given back the partitions that move', async () => {
    const first = await scene.subscribe('billing');
    for (const log of logs) log.append(1);
    await gathered();
    await scene.subscribe('billing');
    expect(scene.said).toHaveLength(1);
    expect(scene.describe('billing').group.state).toBe('COMPLETING_REBALANCE');
    await scene.clock.advance(2_000);
    const { partition } = first.of('revoking').at(-1)!.partitions[0]!;
    await scene.ack('billing', first, { partition, upToOffset: 0 });
    expect(scene.said.at(-1)).toMatchObject({ generation: 2, revoked: 1, completed: true });
    const { durationMs } = scene.said.at(-1) as { durationMs: number };
    expect(durationMs).toBeGreaterThanOrEqual(2_000);
    expect(scene.delivery.views.counts()).toMatchObject({ rebalances: 2, rebalanceSeconds: durationMs / 1_000 });
  });

  test('the rebalances of a group survive a takeover, and the new owner adds its own', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    await scene.subscribe('billing');
    await scene.clock.settle();
    const before = await scene.delivery.views.rebalances('billing');
    scene.store.shared.epoch++;
    const store = new MemoryGroupStore(scene.store.shared);
    const next = await Scene.open({ store, clock: scene.clock, topics: scene.topics, seed: 'next' });
    await next.clock.settle();
    const after = await next.delivery.views.rebalances('billing');
    expect(after.slice(1)).toEqual(before);
    expect(after[0]!.causes.map(({ reason }) => reason)).toContain('TAKEOVER');
    expect(next.said).toMatchObject([{ group: 'billing', generation: after[0]!.generation, members: 1 }]);
    expect(next.describe('billing').members.map(({ memberId }) => memberId)).toEqual([stream.memberId]);
  });

  test('a call for the rebalances of a missing group is rejected', async () => {
    await expect(scene.delivery.views.rebalances('nobody')).rejects.toMatchObject({ reason: 'GROUP_NOT_FOUND' });
  });

  test('a rebalance of many causes is readable: each cause once, with its count and first member, in whole milliseconds', () => {
    const memberId = 'one-1' as MemberId;
    const causes = [
      { reason: 'MEMBER_JOINED', memberId, count: 3 },
      { reason: 'TAKEOVER', memberId: null, count: 1 },
    ] as const;
    const counts = { memberCount: 3, assignedCount: 4, revokedCount: 0 };
    expect(
      rebalanceFields('billing', { generation: 7, causes, durationMs: 51.7, ...counts, completed: false }),
    ).toEqual({
      group: 'billing',
      generation: 7,
      causes: [{ reason: 'MEMBER_JOINED', memberId, count: 3 }, { reason: 'TAKEOVER' }],
      durationMs: 52,
      members: 3,
      assigned: 4,
      revoked: 0,
      completed: false,
    });
  });
});

describe('the numbers for /metrics', () => {
  test('the sums over all groups are counted once a second, and no cursor is visited', async () => {
    await scene.subscribe('billing');
    expect(scene.delivery.views.counts().members).toBe(1);
    await scene.subscribe('shipping');
    expect(scene.delivery.views.counts()).toMatchObject({ members: 1, deliveredRecords: 0 });
    await scene.clock.advance(1_000);
    const visited = vi.spyOn(Cursor.prototype, 'lag');
    expect(scene.delivery.views.counts().members).toBe(2);
    expect(visited).not.toHaveBeenCalled();
    visited.mockRestore();
  });

  test('the sums agree with the cursors after deliveries, acks out of order, a reset, and members that leave', async () => {
    const agree = async (): Promise<void> => {
      await scene.clock.advance(1_000);
      const groups = ['billing', 'shipping'].map((name) => scene.describe(name).group);
      const { lag, inFlightRecords } = scene.delivery.views.counts();
      expect(lag).toBe(groups.reduce((sum, group) => sum + group.lag, 0));
      expect(inFlightRecords).toBe(groups.reduce((sum, group) => sum + group.inFlightRecords, 0));
    };
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 5 });
    await withoutMembers('shipping');
    logs[0]!.append(9);
    logs[1]!.append(3);
    await agree();
    await scene.ack('billing', stream, { runs: [1, 2] });
    await agree();
    await scene.ack('billing', stream, { upToOffset: 0 });
    await agree();
    stream.stream!.closed('CONNECTION_LOST');
    await scene.clock.settle();
    await agree();
    const command = { group: 'billing', topics: [], partitions: [], dryRun: false, force: false };
    await scene.wait(scene.delivery.offsets.reset({ ...command, to: { type: 'earliest' } }));
    await agree();
    const [billing] = [...scene.delivery.views.consumed()].filter(({ group }) => group === 'billing');
    expect(billing).toMatchObject({ lagRecords: 12, ackedRecords: 3, inFlightRecords: 0 });
  });

  test('the metrics count each group in its state, whatever else happens', async () => {
    await scene.subscribe('shipping');
    await withoutMembers('billing');
    const stream = await scene.subscribe('audit');
    logs[0]!.append(1);
    logs[1]!.append(1);
    await gathered();
    await scene.subscribe('audit');
    expect(stream.of('revoking')).toHaveLength(1);
    await scene.wait(scene.delivery.subscriptions.pause('shipping', 'orders'));
    await scene.clock.advance(1_000);
    const { groups, groupsByState, subscriptionsByState, members } = scene.delivery.views.counts();
    expect(subscriptionsByState).toEqual({ ACTIVE: 2, PAUSED: 1, DEAD: 0, CANCELLED: 0 });
    expect({ groups, members }).toEqual({ groups: 3, members: 3 });
    expect(groupsByState).toEqual({ EMPTY: 1, PREPARING_REBALANCE: 0, COMPLETING_REBALANCE: 1, STABLE: 1, DEAD: 0 });
    expect(Object.keys(groupsByState)).toContain(new Group({ generation: 0, members: [], assignments: [] }, 0).state());
  });

  test('the metrics count heartbeats, expired sessions, and calls of removed members', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 6_000 });
    const beat = (): unknown =>
      scene.delivery.membership.heartbeat({ group: 'billing', memberId: stream.memberId, generation: 1, revoked: [] });
    beat();
    beat();
    expect(scene.delivery.views.counts()).toMatchObject({ heartbeats: 2, sessionTimeouts: 0, fencedCalls: 0 });
    await scene.clock.advance(6_100);
    expect(beat).toThrow(expect.objectContaining({ reason: 'MEMBER_FENCED' }));
    expect(scene.delivery.views.counts()).toMatchObject({
      heartbeats: 2,
      sessionTimeouts: 1,
      fencedCalls: 1,
      members: 0,
    });
  });
});
