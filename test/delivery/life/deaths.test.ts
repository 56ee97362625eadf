import { beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '../../../src/errors/fault.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { handedOver, Scene, type FakeStream } from '../scene.ts';

const minuteMs = 60_000;
const deadAfterMs = 240_000;
const lookMs = 15_000;
const latest = { type: 'latest' } as const;

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open();
  scene.addTopic('orders', 2)[0]!.append(3);
  scene.attendance.start();
});

/** Another owner, with the leases of both. */
async function successor(before: Scene, seed = 'next'): Promise<Scene> {
  const { shared } = before.store;
  shared.subscriptions.endedEpochs.set(shared.epoch++, before.clock.nowMs());
  await before.delivery.stop();
  await before.attendance.stop();
  const store = new MemoryGroupStore(shared);
  return Scene.open({ store, clock: before.clock, topics: before.topics, seed });
}

const stateOf = (at = scene, group = 'billing') => at.delivery.subscriptions.get(group, 'orders').subscription.state;
const stored = (at = scene) => at.store.shared.subscriptions.all().map(({ state }) => state);

async function come(at = scene, session: number | null = null): Promise<FakeStream> {
  return at.subscribe('billing', { sessionTimeoutMs: session });
}

async function go(stream: FakeStream, at = scene): Promise<void> {
  stream.stream!.closed('CANCELLED');
  await at.clock.settle();
}

describe('a subscription without a member', () => {
  test('a subscription is DEAD within 5 minutes of the last sign of life, and not before its time', async () => {
    const stream = await come(scene, 30_000);
    await scene.clock.advance(10_000);
    // The client is gone without a word, and its session runs out.
    stream.stream!.closed('CONNECTION_LOST');
    await scene.clock.advance(deadAfterMs - 1_000);
    expect(stateOf()).toBe('ACTIVE');
    await scene.clock.advance(5 * minuteMs - deadAfterMs + 1_000);
    expect(stateOf()).toBe('DEAD');
    expect(stored()).toEqual(['DEAD']);
    expect(scene.live.get(1)).toBe(0);
  });

  test('the time without a member counts from the last sign of life and not from the end of the session', async () => {
    const stream = await come(scene, 30_000);
    stream.stream!.closed('CONNECTION_LOST');
    const heardAtMs = scene.clock.nowMs();
    await scene.clock.advance(60_000);
    expect(scene.subscription('billing', 'orders').subscription.unattendedSinceMs).toBe(heardAtMs);
  });

  test('an idle stream that ends leaves its subscription the whole of dead_after', async () => {
    const stream = await come();
    await scene.clock.advance(600 * minuteMs);
    await go(stream);
    await scene.clock.advance(deadAfterMs - 1);
    expect(stateOf()).toBe('ACTIVE');
    await scene.clock.advance(lookMs + 1);
    expect(stateOf()).toBe('DEAD');
  });

  test('a member that left earlier and lived longer counts as a sign of life', async () => {
    const silent = await come(scene, 60_000);
    const other = await come();
    silent.stream!.closed('CONNECTION_LOST');
    await scene.clock.advance(50_000);
    await go(other);
    const leftAtMs = scene.clock.nowMs();
    await scene.clock.advance(30_000);
    expect(scene.subscription('billing', 'orders').subscription.unattendedSinceMs).toBe(leftAtMs);
  });

  test('a return before the death clears the time, however often', async () => {
    await go(await come());
    for (let times = 0; times < 20; times++) {
      await scene.clock.advance(deadAfterMs - 1_000);
      expect(stateOf()).toBe('ACTIVE');
      await go(await come());
    }
    await scene.clock.advance(deadAfterMs + lookMs);
    expect(stateOf()).toBe('DEAD');
  });

  test('a subscription whose group never had a member does not die', async () => {
    await scene.wait(scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: latest }));
    await scene.clock.advance(600 * minuteMs);
    expect(stateOf()).toBe('ACTIVE');
    const next = await successor(scene);
    next.attendance.start();
    await next.clock.advance(600 * minuteMs);
    expect(stateOf(next)).toBe('ACTIVE');
  });

  test('a subscription from before the upgrade never dies', async () => {
    await scene.wait(
      scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: latest, deadAfterMs: null }),
    );
    await go(await come());
    await scene.clock.advance(600 * minuteMs);
    expect(stateOf()).toBe('ACTIVE');
  });

  test('a paused subscription does not die, and its time starts again when it is resumed', async () => {
    await go(await come());
    await scene.wait(scene.delivery.subscriptions.pause('billing', 'orders'));
    await scene.clock.advance(600 * minuteMs);
    expect(stateOf()).toBe('PAUSED');
    await scene.wait(scene.delivery.subscriptions.resume('billing', 'orders'));
    await scene.clock.advance(deadAfterMs - 1);
    expect(stateOf()).toBe('ACTIVE');
    await scene.clock.advance(lookMs + 1);
    expect(stateOf()).toBe('DEAD');
  });

  test('a change of dead_after counts from the same sign of life', async () => {
    await go(await come());
    await scene.clock.advance(2 * minuteMs);
    await scene.wait(scene.delivery.subscriptions.update('billing', 'orders', minuteMs));
    await scene.clock.advance(lookMs);
    expect(stateOf()).toBe('DEAD');
  });

  test('an idle subscription writes nothing and asks nothing', async () => {
    const stream = await come();
    await scene.ack('billing', stream, { upToOffset: 2 });
    await scene.wait(scene.delivery.subscriptions.create({ group: 'other', topic: 'orders', start: latest }));
    await scene.clock.advance(2 * minuteMs);
    const { writes } = scene.store;
    let reads = 0;
    scene.store.beforeRead = () => {
      reads++;
    };
    await scene.clock.advance(60 * minuteMs);
    expect([scene.store.writes - writes, reads]).toEqual([0, 0]);
    // One write for the removal, and one for the death.
    await go(stream);
    await scene.clock.advance(60 * minuteMs);
    expect(scene.store.writes - writes).toBe(2);
  });

  test('a broker that stood still judges subscriptions by the time that has passed', async () => {
    const steady = new FakeClock(1_000_000);
    const awake = new FakeClock(1_000_000);
    scene = await Scene.open({ clock: steady, awakeClock: awake });
    scene.addTopic('orders', 1);
    scene.attendance.start();
    const joining = scene.delivery.pull('host', {
      ...{ group: 'billing', topics: ['orders'], start: latest, maxRecords: 1, maxBytes: 1_000, waitMs: 0 },
      ...{ memberId: null, clientId: 'c', instanceId: null, maxPollIntervalMs: 300_000, lanes: false },
      ...{ sessionTimeoutMs: 30_000, autoAck: false, reply: handedOver() },
    });
    for (let n = 0; n < 10; n++) await Promise.all([awake.advance(10), steady.settle()]);
    const { memberId } = await joining;
    await Promise.all([scene.delivery.membership.leave('billing', memberId), awake.advance(10)]);
    // The process stands still: only the steady clock goes on.
    steady.jump(10 * minuteMs);
    await steady.advance(lookMs);
    expect(stateOf()).toBe('DEAD');
  });
});

describe('a dead subscription', () => {
  beforeEach(async () => {
    const stream = await come();
    await scene.ack('billing', stream, { upToOffset: 1 });
    await go(stream);
    await scene.clock.advance(deadAfterMs + lookMs);
    expect(stateOf()).toBe('DEAD');
  });

  test('a member that comes back makes it ACTIVE, and it goes on where it was', async () => {
    scene.topics.get('orders')![0]!.append(2);
    const stream = await come();
    expect(stateOf()).toBe('ACTIVE');
    expect(stream.offsets).toEqual([2, 3, 4]);
    expect(scene.subscription('billing', 'orders').subscription).toMatchObject({
      stateReason: 'RETURNED',
      unattendedSinceMs: null,
    });
    expect(scene.live.get(1)).toBe(1);
  });

  test('a subscription is ACTIVE in memory before the stream that revives it begins', async () => {
    const states: string[] = [];
    const stream = scene.subscribe('billing');
    scene.store.after = () => {
      states.push(stateOf());
    };
    await stream;
    expect(states).toContain('DEAD');
    expect(stateOf()).toBe('ACTIVE');
  });

  test('it can neither be paused nor resumed, and nothing changes', async () => {
    const before = scene.store.shared.subscriptions.all();
    for (const change of ['pause', 'resume'] as const) {
      await expect(scene.wait(scene.delivery.subscriptions[change]('billing', 'orders'))).rejects.toMatchObject({
        reason: 'SUBSCRIPTION_STATE',
        fields: { group: 'billing', topic: 'orders', state: 'DEAD' },
      });
    }
    expect(scene.store.shared.subscriptions.all()).toMatchObject(
      before.map(({ state, claimSeq }) => ({ state, claimSeq })),
    );
  });

  test('a cancel ends it, and the next subscription of the names is a new one', async () => {
    const { id } = scene.subscription('billing', 'orders').subscription;
    expect(await scene.wait(scene.delivery.subscriptions.cancel('billing', 'orders'))).toMatchObject({
      state: 'CANCELLED',
      stateReason: 'CANCELLED',
    });
    const stream = await come();
    expect(scene.subscription('billing', 'orders').subscription.id).not.toBe(id);
    expect(stream.offsets).toEqual([0, 1, 2]);
  });

  test('a commit of offsets without a member does not revive it', async () => {
    const offsets = [{ topic: 'orders', partition: 0, lane: 0, offset: 3, metadata: '' }];
    await scene.wait(scene.delivery.offsets.commit({ group: 'billing', member: null, offsets }));
    expect(stateOf()).toBe('DEAD');
  });
});

describe('after a takeover', () => {
  test('members that do not return count from the last renewal of the broker before', async () => {
    await come();
    await scene.clock.advance(30 * minuteMs);
    const next = await successor(scene);
    next.attendance.start();
    await next.clock.advance(deadAfterMs - 1_000);
    expect(stateOf(next)).toBe('ACTIVE');
    await next.clock.advance(lookMs + 1_000);
    expect(stateOf(next)).toBe('DEAD');
  });

  test('a member with a session that does not return is dead within 5 minutes of the takeover', async () => {
    await come(scene, 30_000);
    await scene.clock.advance(20_000);
    expect(stateOf()).toBe('ACTIVE');
    const next = await successor(scene);
    next.attendance.start();
    await next.clock.advance(5 * minuteMs);
    expect(stateOf(next)).toBe('DEAD');
  });

  test('members that no later owner has heard count from the last owner that heard one', async () => {
    await come(scene, 30_000);
    await scene.clock.advance(20_000);
    const heardAtMs = scene.clock.nowMs();
    let owner = scene;
    for (let times = 0; times < 4; times++) {
      owner = await successor(owner, `owner-${times}`);
      owner.attendance.start();
      await owner.clock.advance(25_000);
      expect(stateOf(owner)).toBe('ACTIVE');
    }
    await owner.clock.advance(heardAtMs + deadAfterMs - 1_000 - owner.clock.nowMs());
    expect(stateOf(owner)).toBe('ACTIVE');
    await owner.clock.advance(lookMs + 1_000);
    expect(stateOf(owner)).toBe('DEAD');
  });

  test('a heartbeat to one owner makes the next one count from that owner, and later heartbeats write nothing', async () => {
    const { memberId } = await come(scene, 30_000);
    const second = await successor(scene, 'second');
    const beat = async () => {
      second.delivery.membership.heartbeat({ ...{ group: 'billing', memberId, generation: null, revoked: [] } });
      await second.clock.advance(3_000);
    };
    const { writes } = second.store;
    for (let n = 0; n < 5; n++) await beat();
    expect(second.store.writes - writes).toBe(1);
    const heardAtMs = second.clock.nowMs();
    const third = await successor(second, 'third');
    third.attendance.start();
    await third.clock.advance(60_000);
    expect(third.subscription('billing', 'orders').subscription.unattendedSinceMs).toBe(heardAtMs);
  });

  test('a note of a heartbeat that fails is repeated, however many heartbeats come', async () => {
    const { memberId } = await come(scene, 30_000);
    const second = await successor(scene, 'second');
    let failed = 0;
    second.store.before = (write) => {
      if (write !== 'noteHeard' || failed > 0) return;
      failed++;
      throw new Fault('DATABASE_UNAVAILABLE', 'the database is away');
    };
    const { writes } = second.store;
    for (let n = 0; n < 10; n++) {
      second.delivery.membership.heartbeat({ ...{ group: 'billing', memberId, generation: null, revoked: [] } });
      await second.clock.advance(n === 0 ? 3_000 : 1);
    }
    expect([failed, second.store.writes - writes]).toEqual([1, 1]);
    expect(second.store.shared.subscriptions.heardEpochs.get(1)).toBe(second.store.shared.epoch);
  });

  test('a member that leaves by a call gives a sign of life with it', async () => {
    const { memberId } = await come(scene, 30_000);
    let owner = scene;
    for (const seed of ['second', 'third']) {
      owner = await successor(owner, seed);
      await owner.clock.advance(20_000);
    }
    const leftAtMs = owner.clock.nowMs();
    await owner.wait(owner.delivery.membership.leave('billing', memberId));
    expect(owner.subscription('billing', 'orders').subscription.unattendedSinceMs).toBe(leftAtMs);
  });

  test('a subscription that was unattended before dies in its time, whatever the number of takeovers', async () => {
    await go(await come());
    let owner = scene;
    for (let times = 0; times < 3; times++) {
      await owner.clock.advance(minuteMs);
      owner = await successor(owner, `owner-${times}`);
      owner.attendance.start();
    }
    await owner.clock.advance(minuteMs + lookMs);
    expect(stateOf(owner)).toBe('DEAD');
  });

  test('a member that resumes its session keeps the subscription alive', async () => {
    const stream = await come(scene, 30_000);
    const next = await successor(scene);
    next.attendance.start();
    const again = await next.subscribe('billing', { memberId: stream.memberId, sessionTimeoutMs: 30_000 });
    for (let n = 0; n < 40; n++) {
      await next.clock.advance(10_000);
      next.delivery.membership.heartbeat({
        ...{ group: 'billing', memberId: again.memberId, generation: null, revoked: [] },
      });
    }
    expect(stateOf(next)).toBe('ACTIVE');
  });
});

describe('an answer that is lost', () => {
  /** The next write of the kind commits, and its answer is lost. */
  function loseOne(kind: string): void {
    let lost = false;
    scene.store.after = (write) => {
      if (write !== kind || lost) return;
      lost = true;
      throw new Fault('OUTCOME_UNKNOWN', 'the answer is lost');
    };
  }

  test('a lost answer to a leave does not keep a subscription alive for ever', async () => {
    const stream = await come();
    loseOne('saveGroups');
    await go(stream);
    await scene.clock.advance(deadAfterMs + 2 * lookMs);
    expect(stateOf()).toBe('DEAD');
  });

  test('a lost answer to a return does not leave the subscription DEAD in memory', async () => {
    await go(await come());
    await scene.clock.advance(deadAfterMs + lookMs);
    loseOne('saveGroups');
    await come();
    expect([stateOf(), stored()]).toEqual(['ACTIVE', ['ACTIVE']]);
    expect(scene.live.get(1)).toBe(1);
  });

  test('a lost answer to a look does not hide a death', async () => {
    await go(await come());
    loseOne('markDead');
    await scene.clock.advance(deadAfterMs + 2 * lookMs);
    expect([stateOf(), stored()]).toEqual(['DEAD', ['DEAD']]);
    expect(scene.live.get(1)).toBe(0);
  });

  test('a lost answer to a pause does not leave the two apart', async () => {
    await come();
    loseOne('changeSubscription');
    await scene.wait(scene.delivery.subscriptions.pause('billing', 'orders'));
    expect([stateOf(), stored()]).toEqual(['PAUSED', ['PAUSED']]);
  });

  test('a lost answer to a cancel ends the subscription in memory too', async () => {
    await come();
    loseOne('cancelSubscription');
    await scene.wait(scene.delivery.subscriptions.cancel('billing', 'orders'));
    expect(() => stateOf()).toThrow(/has no subscription/);
    expect(stored()).toEqual(['CANCELLED']);
  });
});
