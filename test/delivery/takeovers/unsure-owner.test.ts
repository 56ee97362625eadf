import { beforeEach, describe, expect, test } from 'vitest';
import type { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';

/**
 * A broker whose database does not answer may have been replaced without knowing it, so its answers
 * from memory may be false.
 */

let scene: Scene;
let logs: FakeLog[];
let member: FakeStream;
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 1);
  member = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
});

const heartbeat = (memberId = member.memberId): void => {
  scene.delivery.membership.heartbeat({ group: 'billing', memberId, generation: 0, revoked: [] });
};

function reasonOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return (error as Rejection).reason;
  }
  return 'none';
}

const reasonFor = (promise: Promise<unknown>): Promise<string> =>
  scene.wait(
    promise.then(
      () => 'none',
      (error: unknown) => (error as Rejection).reason,
    ),
  );

describe('while a broker cannot be sure to own its groups', () => {
  beforeEach(() => {
    scene.mayDeliver = false;
  });

  test('a broker that may have been replaced does not confirm a heartbeat', () => {
    expect(reasonOf(heartbeat)).toBe('NOT_OWNER');
  });

  test('a broker that may have been replaced does not reject a member that only its successor knows', () => {
    const memberId = 'of-the-successor' as typeof member.memberId;
    expect(
      reasonOf(() => {
        heartbeat(memberId);
      }),
    ).toBe('NOT_OWNER');
  });

  test('a pull that finds nothing at a broker that may have been replaced is not answered as caught up', async () => {
    expect(await reasonFor(scene.pull('billing', { memberId: member.memberId, waitMs: 1_000 }))).toBe('NOT_OWNER');
  });

  test('a pull that waits while the broker loses its database is not answered as caught up', async () => {
    scene.mayDeliver = true;
    const pulled = scene.pull('billing', { memberId: member.memberId, waitMs: 1_000 });
    await scene.clock.advance(500);
    scene.mayDeliver = false;
    expect(await reasonFor(pulled)).toBe('NOT_OWNER');
  });

  test('no member joins or resumes at a broker that may have been replaced', async () => {
    expect(await reasonFor(scene.subscribe('billing'))).toBe('NOT_OWNER');
    expect(await reasonFor(scene.subscribe('billing', { memberId: member.memberId }))).toBe('NOT_OWNER');
    expect(await reasonFor(scene.pull('billing'))).toBe('NOT_OWNER');
  });

  test('a quiet stream ends instead of sending an idle event while the broker may have been replaced', async () => {
    const lonely = await (async () => {
      scene.mayDeliver = true;
      const stream = await scene.subscribe('other');
      scene.mayDeliver = false;
      return stream;
    })();
    await scene.clock.advance(10_000);
    expect([member.ended?.error?.reason, lonely.ended?.error?.reason]).toEqual(['NOT_OWNER', 'NOT_OWNER']);
    expect(member.of('idle').filter(({ blockedOn }) => blockedOn === 'CAUGHT_UP')).toEqual([]);
  });
});

test('a member that sent heartbeats while the database did not answer keeps its session and partitions', async () => {
  const { generation } = member;
  scene.mayDeliver = false;
  for (let second = 0; second < 60; second++) {
    await scene.clock.advance(1_000);
    reasonOf(heartbeat);
  }
  scene.mayDeliver = true;
  logs[0]!.append(1);
  const back = await scene.subscribe('billing', { memberId: member.memberId });
  expect([back.generation, back.assigned, back.offsets]).toEqual([generation, [0], [0]]);
});
