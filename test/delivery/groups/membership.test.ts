import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { builtInAssignors } from '../../../src/coordinator/assignors/built-in.ts';
import { Group, type MemberId } from '../../../src/coordinator/group.ts';
import type { MemberAssignment, SyncGroupOutcome } from '../../../src/delivery/ports/membership.ts';
import { limits } from '../../../src/limits/limits.ts';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 4);
});

const describeGroup = () => scene.describe('billing');
const beat = (memberId: MemberId) =>
  scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation: 1, revoked: [] });

/** Lets the time pass while all members send heartbeats. */
async function pass(ms: number, ...members: readonly { readonly memberId: MemberId }[]): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1_000) {
    await scene.clock.advance(1_000);
    for (const { memberId } of members) beat(memberId);
  }
  await scene.clock.settle();
}

describe('a static member', () => {
  const instance = { instanceId: 'worker-1', sessionTimeoutMs: 30_000 };

  test('a static member that restarts within its session keeps its partitions, and disturbs no other member', async () => {
    const other = await scene.subscribe('billing');
    const first = await scene.subscribe('billing', instance);
    await scene.gathered();
    logs[first.assigned[0]!]!.append(2);
    await scene.clock.settle();
    await scene.ack('billing', first, { partition: first.assigned[0]!, upToOffset: 0 });
    const { generation } = describeGroup().group;
    const told = other.events.length;
    first.stream!.closed('CONNECTION_LOST');
    await pass(20_000);
    const again = await scene.subscribe('billing', instance);
    expect(again.memberId).not.toBe(first.memberId);
    expect(again.assigned).toEqual(first.assigned);
    expect(describeGroup().group.generation).toBe(generation);
    expect(other.events.slice(told).filter(({ type }) => type !== 'idle')).toEqual([]);
    // A record in flight may have killed the first process, so that attempt counts.
    expect(again.batches).toEqual([{ partition: first.assigned[0], offsets: [1], attempts: [2] }]);
  });

  test('a static member whose instance id another process uses is fenced: its stream ends and its acks change nothing', async () => {
    logs[0]!.append(1);
    const first = await scene.subscribe('billing', instance);
    const second = await scene.subscribe('billing', instance);
    expect(first.ended?.error?.reason).toBe('INSTANCE_FENCED');
    await expect(scene.ack('billing', first, { upToOffset: 0 })).rejects.toMatchObject({ reason: 'MEMBER_FENCED' });
    expect((await scene.ack('billing', second, { upToOffset: 0 })).status).toBe('OK');
    const { memberId } = first;
    await expect(scene.subscribe('billing', { ...instance, memberId })).rejects.toMatchObject({
      reason: 'INSTANCE_FENCED',
    });
    await expect(scene.subscribe('billing', { memberId })).rejects.toMatchObject({ reason: 'MEMBER_FENCED' });
  });

  test('a static member that does not come back within its session loses its partitions', async () => {
    const other = await scene.subscribe('billing');
    const first = await scene.subscribe('billing', { ...instance, sessionTimeoutMs: 6_000 });
    first.stream!.closed('CONNECTION_LOST');
    await pass(7_000);
    expect(other.assigned).toEqual([0, 1, 2, 3]);
  });

  test('a restarted static member does not block a revocation with records of its first process', async () => {
    for (const log of logs) log.append(1);
    const first = await scene.subscribe('billing', { ...instance, rebalanceTimeoutMs: 60_000 });
    await scene.gathered();
    const other = await scene.subscribe('billing');
    await scene.gathered();
    expect(other.assigned).toEqual([]);
    const again = await scene.subscribe('billing', instance);
    await scene.gathered();
    expect(again.assigned).toHaveLength(2);
    expect(other.assigned).toHaveLength(2);
    expect(first.ended).not.toBeNull();
  });

  test('a static member that resumes must name the instance id with which it joined', async () => {
    const { memberId } = await scene.subscribe('billing', instance);
    const other = { memberId, instanceId: 'worker-2' };
    const before = describeGroup();
    await expect(scene.subscribe('billing', other)).rejects.toMatchObject({ reason: 'INSTANCE_ID_IN_USE' });
    expect(describeGroup()).toEqual(before);
  });
});

describe('a member that does not ack', () => {
  const slow = { sessionTimeoutMs: 30_000, maxPollIntervalMs: 60_000 };

  test('a member that does not ack keeps its partitions for its max poll interval', async () => {
    logs[0]!.append(1);
    const member = await scene.subscribe('billing', { ...slow, maxPollIntervalMs: 7_200_000 });
    await pass(3_600_000, member);
    expect((await scene.ack('billing', member, { upToOffset: 0 })).status).toBe('OK');
    expect(member.of('assigned')).toHaveLength(1);
  });

  test('a member that does not ack for its max poll interval loses its partitions and stays a member', async () => {
    for (const log of logs) log.append(1);
    const member = await scene.subscribe('billing', slow);
    await pass(59_000, member);
    expect(member.assigned).toEqual([0, 1, 2, 3]);
    await pass(2_000, member);
    expect(member.assigned).toEqual([]);
    expect(describeGroup()).toMatchObject({ members: [{ stalled: true, partitions: [] }] });
    expect(member.of('idle').at(-1)?.blockedOn).toBe('MAX_POLL_INTERVAL');
    const other = await scene.subscribe('billing');
    expect(other.batches).toContainEqual({ partition: 0, offsets: [0], attempts: [2] });
  });

  test('a stalled member gets partitions again once it acks, even if that ack is rejected', async () => {
    logs[0]!.append(1);
    const member = await scene.subscribe('billing', slow);
    await pass(61_000, member);
    expect((await scene.ack('billing', member, { upToOffset: 0 })).status).toBe('NOT_OWNER');
    await scene.gathered();
    expect(member.assigned).toEqual([0, 1, 2, 3]);
    expect(describeGroup()).toMatchObject({ members: [{ stalled: false }] });
  });

  test('a member that has nothing to ack, or acks now and then, is not stalled', async () => {
    const idle = await scene.subscribe('billing', slow);
    await pass(200_000, idle);
    expect(idle.of('assigned')).toHaveLength(1);
    logs[0]!.append(10);
    await scene.clock.settle();
    for (let offset = 0; offset < 9; offset++) {
      await pass(50_000, idle);
      expect((await scene.ack('billing', idle, { upToOffset: offset })).status).toBe('OK');
    }
    expect(idle.of('assigned')).toHaveLength(1);
  });

  test('a stalled member that pulls again gets partitions again', async () => {
    const join = await scene.join('billing', slow);
    const { memberId } = join;
    await pass(61_000, join);
    expect(describeGroup()).toMatchObject({ members: [{ stalled: true, partitions: [] }] });
    await scene.wait(scene.pull('billing', { memberId, maxPollIntervalMs: 60_000 }));
    await scene.gathered();
    expect(describeGroup().members[0]?.partitions).toHaveLength(4);
  });

  test('a member that is away is not stalled, because a static member may come back within its session', async () => {
    const away = { ...slow, sessionTimeoutMs: 600_000, instanceId: 'worker-1' };
    logs[0]!.append(1);
    const first = await scene.subscribe('billing', away);
    first.stream!.closed('CONNECTION_LOST');
    await pass(300_000);
    const again = await scene.subscribe('billing', away);
    expect(again.assigned).toEqual([0, 1, 2, 3]);
    expect(describeGroup().group.generation).toBe(1);
  });
});

describe('members that assign by themselves', () => {
  const own = { clientAssignors: ['by-hand', 'spare'] };

  test('a join whose metadata would not fit into the task of the leader is rejected, and the group goes on', async () => {
    const metadata = Buffer.alloc(limits.pageBytesMax / 2);
    const leader = await scene.join('billing', { ...own, metadata });
    await scene.gathered();
    const refused = { reason: 'GROUP_TASK_TOO_LARGE' };
    await expect(scene.join('billing', { ...own, metadata })).rejects.toMatchObject(refused);
    const again = await scene.join('billing', { ...own, metadata, memberId: leader.memberId });
    expect(again.task?.members.map(({ memberId }) => memberId)).toEqual([leader.memberId]);
    expect(again.task?.current).toHaveLength(1);
  });

  const sync = (
    memberId: MemberId,
    plan: readonly MemberAssignment[] | null = null,
    generation = describeGroup().group.generation,
  ): Promise<SyncGroupOutcome> =>
    scene.wait(
      scene.delivery.membership.sync({
        group: 'billing',
        memberId,
        knownGeneration: null,
        plan: plan === null ? null : { generation, members: plan },
        waitMs: 5_000,
        signal: new AbortController().signal,
      }),
    );
  const some = (memberId: MemberId, ...partitions: number[]): MemberAssignment => ({
    memberId,
    partitions: partitions.map((partition) => ({ topic: 'orders', partition })),
  });

  test('members of a client-side assignor get the plan of their leader, and wait for it', async () => {
    const leader = await scene.join('billing', { ...own, metadata: Buffer.from('zone a') });
    expect(leader).toMatchObject({ leaderId: leader.memberId, assignor: 'by-hand' });
    expect(leader.task).toMatchObject({
      members: [{ memberId: leader.memberId, topics: ['orders'], metadata: Buffer.from('zone a') }],
      topics: [{ topic: 'orders', partitions: 4 }],
    });
    await sync(leader.memberId, [some(leader.memberId, 0, 1, 2, 3)]);
    await scene.gathered();
    const follower = await scene.join('billing', { clientAssignors: ['spare'] });
    expect(follower).toMatchObject({ leaderId: leader.memberId, assignor: 'spare', task: null });
    const waiting = scene.delivery.membership.sync({
      group: 'billing',
      memberId: follower.memberId,
      knownGeneration: null,
      plan: null,
      waitMs: 5_000,
      signal: new AbortController().signal,
    });
    expect(beat(leader.memberId).planWanted).toBe(true);
    expect(beat(follower.memberId).planWanted).toBe(false);
    const again = await scene.join('billing', { ...own, memberId: leader.memberId, metadata: Buffer.from('zone a') });
    expect(again.task?.current).toEqual([some(leader.memberId, 0, 1, 2, 3), some(follower.memberId)]);
    await sync(leader.memberId, [some(leader.memberId, 3), some(follower.memberId, 0, 1, 2)]);
    expect((await scene.wait(waiting)).generation).toBe(again.generation);
    await scene.clock.settle();
    expect((await sync(follower.memberId)).partitions.map(({ place }) => place.partition)).toEqual([0, 1, 2]);
    expect(describeGroup().group.state).toBe('STABLE');
  });

  test('a member that cannot assign by itself, or wants to where the broker assigns, is rejected', async () => {
    const leader = await scene.join('billing', own);
    await sync(leader.memberId, [some(leader.memberId, 0, 1, 2, 3)]);
    const before = describeGroup();
    await expect(scene.subscribe('billing')).rejects.toMatchObject({ reason: 'INCONSISTENT_PROTOCOLS' });
    await expect(scene.join('billing')).rejects.toMatchObject({ reason: 'INCONSISTENT_PROTOCOLS' });
    await expect(scene.join('billing', { clientAssignors: ['other'] })).rejects.toMatchObject({
      reason: 'INCONSISTENT_PROTOCOLS',
    });
    expect(describeGroup()).toEqual(before);
    await scene.subscribe('audit');
    await expect(scene.join('audit', own)).rejects.toMatchObject({ reason: 'INCONSISTENT_PROTOCOLS' });
  });

  test('a plan that is wrong, late, or not from the leader changes nothing', async () => {
    const leader = await scene.join('billing', own);
    const follower = await scene.join('billing', own);
    const { memberId } = leader;
    const all = [some(memberId, 0, 1, 2, 3)];
    const before = describeGroup();
    for (const [plan, what] of [
      [[some(memberId, 0, 1, 2)], 'partition 3'],
      [[some(memberId, 0, 1, 2, 3, 3)], 'twice'],
      [[some(memberId, 0, 1, 2, 3), some('nobody' as MemberId)], null],
      [[some('nobody' as MemberId, 0, 1, 2, 3)], 'not a member'],
      [[some(memberId, 0, 1, 2, 4)], 'no partition 4'],
      [[{ memberId, partitions: [{ topic: 'nothing', partition: 0 }] }], 'not subscribed'],
    ] as const) {
      if (what === null) continue;
      await expect(sync(memberId, plan)).rejects.toThrow(what);
      await expect(sync(memberId, plan)).rejects.toMatchObject({ reason: 'ASSIGNOR_FAILED' });
    }
    await expect(sync(follower.memberId, all)).rejects.toMatchObject({ reason: 'NOT_LEADER' });
    await expect(sync(memberId, all, 1)).rejects.toMatchObject({ reason: 'PLAN_STALE' });
    expect(describeGroup()).toEqual(before);
    await sync(memberId, all);
    await expect(sync(memberId, all)).rejects.toMatchObject({ reason: 'PLAN_STALE' });
  });

  test('a leader that sends no plan within its rebalance timeout is removed', async () => {
    const leader = await scene.join('billing', own);
    const follower = await scene.join('billing', own);
    await pass(11_000, leader, follower).catch(() => undefined);
    expect(describeGroup().group.leaderId).toBe(follower.memberId);
    expect(() => beat(leader.memberId)).toThrow('join again');
  });
});

describe('an assignor that fails', () => {
  const failing = async (fails: () => boolean): Promise<void> => {
    const picky = (...[input]: Parameters<NonNullable<ReturnType<typeof builtInAssignors.get>>>) => {
      if (fails()) throw new Error('no idea');
      return builtInAssignors.get('sticky')!(input);
    };
    scene = await Scene.open({ assignors: new Map([...builtInAssignors, ['picky', picky]]) });
    logs = scene.addTopic('orders', 4);
  };

  test('an assignor that fails rejects the member that joins, and changes nothing', async () => {
    let broken = false;
    await failing(() => broken);
    const first = await scene.subscribe('billing', { assignor: 'picky' });
    const before = describeGroup();
    broken = true;
    await expect(scene.subscribe('billing')).rejects.toMatchObject({ reason: 'ASSIGNOR_FAILED' });
    expect(describeGroup()).toEqual(before);
    logs[0]!.append(1);
    await scene.clock.settle();
    expect(first.offsets).toEqual([0]);
    broken = false;
    expect((await scene.subscribe('billing')).assigned).toHaveLength(2);
  });

  test('an assignor that fails is replaced by sticky where no call can be rejected', async () => {
    let broken = false;
    await failing(() => broken);
    const streams: FakeStream[] = [];
    for (let n = 0; n < 3; n++) streams.push(await scene.subscribe('billing', { assignor: 'picky' }));
    await scene.gathered();
    broken = true;
    await scene.wait(scene.delivery.membership.leave('billing', streams[1]!.memberId));
    await scene.gathered();
    expect([...streams[0]!.assigned, ...streams[2]!.assigned].toSorted()).toEqual([0, 1, 2, 3]);
  });
});

test('a group cannot have more topics than the limit', async () => {
  const names = Array.from({ length: 1_001 }, (_, n) => `topic-${n}`);
  for (const name of names) scene.addTopic(name, 1);
  const { memberId } = await scene.join('billing', { topics: names.slice(0, 1) });
  // A subscription stays when its member reads other topics.
  const join = (topics: readonly string[]) => scene.join('billing', { topics, memberId });
  for (let from = 0; from < 1_000; from += 100) await join(names.slice(from, from + 100));
  await expect(join([names[1_000]!])).rejects.toMatchObject({ reason: 'GROUP_TOPICS_MAX' });
});

test('heartbeats pile up while the database hangs, or the partitions that they give back are lost', async () => {
  const { memberId } = await scene.join('billing');
  await scene.gathered();
  const hangs = Promise.withResolvers<void>();
  scene.store.before = () => hangs.promise;
  const joins = scene.join('billing', { clientId: 'other' });
  await scene.clock.settle();
  const step = vi.spyOn(Group.prototype, 'step');
  onTestFinished(() => {
    step.mockRestore();
  });
  const { generation } = describeGroup().group;
  const revoked = [0, 1].map((partition) => ({ topic: 'orders', partition }));
  for (let n = 0; n < 1_000; n++) {
    const given = n === 500 ? revoked.slice(0, 1) : n > 600 ? revoked : [];
    scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation, revoked: given });
  }
  hangs.resolve();
  await joins;
  const told = step.mock.calls.flatMap(([inputs]) => inputs.filter(({ type }) => type === 'alive'));
  expect(told).toEqual([
    { type: 'alive', memberId, revoked: [] },
    { type: 'alive', memberId, revoked: [{ topicId: 1, partition: 0 }] },
    { type: 'alive', memberId, revoked: [{ topicId: 1, partition: 1 }] },
  ]);
});
