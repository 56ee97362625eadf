import { beforeEach, expect, test } from 'vitest';
import type { MemberId } from '../../../src/coordinator/group.ts';
import type { JoinGroupCommand, JoinGroupOutcome } from '../../../src/delivery/ports/membership.ts';
import { limits } from '../../../src/limits/limits.ts';
import { handedOver, Scene, type FakeLog } from '../scene.ts';

const maxPollIntervalMs = 10_000;

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 1);
});

const member = () => scene.describe('billing').members[0]!;

function join(changes: Partial<JoinGroupCommand> = {}): Promise<JoinGroupOutcome> {
  return scene.wait(
    scene.delivery.join('host', {
      group: 'billing',
      topics: ['orders'],
      start: { type: 'earliest' },
      memberId: null,
      clientId: 'client',
      instanceId: null,
      maxPollIntervalMs,
      lanes: false,
      sessionTimeoutMs: 30_000,
      rebalanceTimeoutMs: 60_000,
      assignor: 'sticky',
      clientAssignors: [],
      metadata: new Uint8Array(),
      reply: handedOver(),
      ...changes,
    }),
  );
}

/** Lets time pass in which the member only sends heartbeats. */
async function beat(memberId: MemberId, forMs: number): Promise<void> {
  for (let passed = 0; passed < forMs; passed += 1_000) {
    await scene.clock.advance(1_000);
    scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation: 1, revoked: [] });
  }
  await scene.clock.settle();
}

test('a member that sends heartbeats and reads nothing does not keep its partitions from other members', async () => {
  const { memberId } = await join();
  await beat(memberId, maxPollIntervalMs - 1_000);
  expect(member()).toMatchObject({ stalled: false, partitions: [{ partition: 0 }] });
  await beat(memberId, 2_000);
  expect(member()).toMatchObject({ stalled: true, partitions: [] });
  await scene.subscribe('billing', { memberId, maxPollIntervalMs });
  await scene.clock.advance(limits.rebalanceGatherMs);
  await beat(memberId, 2 * maxPollIntervalMs);
  expect(member()).toMatchObject({ stalled: false, partitions: [{ partition: 0 }] });
});

test('a member whose last Pull was long ago does not keep its partitions from other members', async () => {
  const { memberId } = await scene.wait(scene.pull('billing', { maxPollIntervalMs, waitMs: 15_000 }));
  await beat(memberId, maxPollIntervalMs - 1_000);
  expect(member()).toMatchObject({ stalled: false });
  await beat(memberId, 2_000);
  expect(member()).toMatchObject({ stalled: true, partitions: [] });
});

test('a stalled leader does not get partitions again because it asks for the task of its plan', async () => {
  logs[0]!.append(1);
  const clientAssignors = ['range'];
  const { memberId, generation } = await join({ clientAssignors });
  await scene.subscribe('billing', { memberId, maxPollIntervalMs });
  const plan = { generation, members: [{ memberId, partitions: [{ topic: 'orders', partition: 0 }] }] };
  const sync = { group: 'billing', memberId, knownGeneration: null, waitMs: 0, signal: new AbortController().signal };
  await scene.wait(scene.delivery.membership.sync({ ...sync, plan }));
  await beat(memberId, maxPollIntervalMs + 1_000);
  expect(member()).toMatchObject({ stalled: true, partitions: [] });
  await join({ memberId, clientAssignors });
  await beat(memberId, 1_000);
  expect(member()).toMatchObject({ stalled: true, partitions: [] });
});

test('a member that reads again while the loss of its partitions is being written gets them back', async () => {
  const { memberId } = await join();
  const written = Promise.withResolvers<void>();
  scene.store.before = () => written.promise;
  await beat(memberId, maxPollIntervalMs + 1_000);
  await scene.subscribe('billing', { memberId, maxPollIntervalMs });
  written.resolve();
  await scene.clock.settle();
  await scene.clock.advance(limits.rebalanceGatherMs);
  expect(member()).toMatchObject({ stalled: false, partitions: [{ partition: 0 }] });
});
