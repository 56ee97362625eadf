import { beforeEach, describe, expect, test } from 'vitest';
import type { MemberId } from '../../../src/coordinator/group.ts';
import { limits } from '../../../src/limits/limits.ts';
import { AwakeClock } from '../../../src/time/awake-clock.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { offsetsOf, Scene, type FakeLog } from '../scene.ts';

/** A broker that is stopped and goes on (SIGSTOP, SIGCONT) while it owns the database. */

const pausedMs = 20_000;
const sessionTimeoutMs = 7_000;
/** The running time that a pause counts as. */
const slackMs = 250;

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  const clock = new FakeClock();
  const awakeClock = new AwakeClock(clock);
  awakeClock.start();
  scene = await Scene.open({ clock, awakeClock });
  logs = scene.addTopic('orders', 2);
});

const beat = (memberId: MemberId) =>
  scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation: 1, revoked: [] });
const memberIds = () => scene.describe('billing').members.map(({ memberId }) => memberId);

/** On waking, due timers run first. Heartbeats still wait in the sockets, which are read later. */
async function pause(...heartbeats: readonly MemberId[]): Promise<void> {
  scene.clock.jump(pausedMs);
  await scene.clock.advance(0);
  for (const memberId of heartbeats) beat(memberId);
  await scene.clock.settle();
}

describe('a broker that stood still for longer than a session', () => {
  test('a broker that was stopped for longer than a session removes no member when it wakes, and moves nothing', async () => {
    const members = [
      await scene.subscribe('billing', { sessionTimeoutMs }),
      await scene.join('billing', { sessionTimeoutMs }),
    ];
    await scene.gathered();
    const { generation } = scene.describe('billing').group;
    await scene.clock.advance(3_000);
    const ids = members.map(({ memberId }) => memberId);
    await pause(...ids);
    expect(memberIds()).toEqual(ids.toSorted());
    expect(scene.describe('billing').group.generation).toBe(generation);
  });

  test('a broker that was stopped removes a silent member after a full session timeout of its own running time', async () => {
    const { memberId } = await scene.join('billing', { sessionTimeoutMs });
    await scene.clock.advance(3_000);
    await pause();
    await scene.clock.advance(sessionTimeoutMs - 3_000 - slackMs - 10);
    expect(memberIds()).toEqual([memberId]);
    await scene.clock.advance(slackMs);
    expect(memberIds()).toEqual([]);
  });

  test('a broker that was stopped does not regard a member as stalled that could not ack meanwhile', async () => {
    logs[0]!.append(1);
    const member = await scene.subscribe('billing', { sessionTimeoutMs, maxPollIntervalMs: 10_000 });
    await scene.clock.advance(3_000);
    await pause(member.memberId);
    expect(member.assigned).toEqual([0, 1]);
    expect((await scene.ack('billing', member, { upToOffset: 0 })).status).toBe('OK');
  });

  test('a broker that was stopped does not cut short the rebalance timeout of a revocation', async () => {
    for (const log of logs) log.append(1);
    const holder = await scene.subscribe('billing', { rebalanceTimeoutMs: 10_000 });
    await scene.gathered();
    const next = await scene.subscribe('billing');
    await scene.gathered();
    expect(holder.of('revoking')).toHaveLength(1);
    await pause();
    expect(next.assigned).toEqual([]);
    await scene.clock.advance(10_000);
    expect(next.assigned).toHaveLength(1);
  });

  test('a broker that was stopped does not expire the lease of a pulled record', async () => {
    logs[0]!.append(1);
    const { memberId, generation } = await scene.wait(scene.pull('billing', { sessionTimeoutMs: 60_000 }));
    await scene.clock.advance(limits.pullLeaseMs - pausedMs + 1_000);
    await pause(memberId);
    expect(offsetsOf(await scene.wait(scene.pull('billing', { memberId })))).toEqual([]);
    expect((await scene.ack('billing', { memberId, generation }, { upToOffset: 0 })).status).toBe('OK');
  });

  test('a broker that was stopped does not remove a leader that could not send its plan meanwhile', async () => {
    const own = { clientAssignors: ['by-hand'], sessionTimeoutMs, rebalanceTimeoutMs: 10_000 };
    const leader = await scene.join('billing', own);
    await pause(leader.memberId);
    expect(memberIds()).toEqual([leader.memberId]);
    expect(beat(leader.memberId).planWanted).toBe(true);
  });
});
