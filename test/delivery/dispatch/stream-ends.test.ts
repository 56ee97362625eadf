import { beforeEach, describe, expect, test } from 'vitest';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';

let scene: Scene;
let log: FakeLog;
beforeEach(async () => {
  scene = await Scene.open();
  [log] = scene.addTopic('orders', 1) as [FakeLog];
  log.append(2);
});

const session = { sessionTimeoutMs: 6_000 };

/** The attempt numbers of the two records for the next member. */
async function nextAttempts(): Promise<readonly number[]> {
  await scene.gathered();
  const next = await scene.subscribe('billing');
  await scene.gathered();
  return next.batches.flatMap(({ attempts }) => attempts);
}

async function ended(stream: FakeStream, reason: 'CANCELLED' | 'CONNECTION_LOST'): Promise<void> {
  expect(stream.offsets).toEqual([0, 1]);
  stream.stream!.closed(reason);
  await scene.clock.settle();
}

const members = () => scene.describe('billing').members;

describe('what is in flight to a member without a session timeout', () => {
  test('a cancelled stream without a session counts no attempt, so that five deploys do not make a dead letter', async () => {
    for (let deploy = 0; deploy < 5; deploy++) {
      await scene.gathered();
      const stream = await scene.subscribe('billing');
      expect(stream.batches.map(({ attempts }) => attempts)).toEqual([[1, 1]]);
      await ended(stream, 'CANCELLED');
      expect(members()).toEqual([]);
    }
    expect(await nextAttempts()).toEqual([1, 1]);
  });

  test('a lost connection of a member without a session counts an attempt', async () => {
    await ended(await scene.subscribe('billing'), 'CONNECTION_LOST');
    expect(members()).toEqual([]);
    expect(await nextAttempts()).toEqual([2, 2]);
  });

  test('a stream that the broker ends because it may have been replaced counts no attempt', async () => {
    const stream = await scene.subscribe('billing');
    scene.mayDeliver = false;
    await scene.clock.advance(15_000);
    expect(stream.ended?.error?.reason).toBe('NOT_OWNER');
    scene.mayDeliver = true;
    stream.stream!.closed('CONNECTION_LOST');
    expect(await nextAttempts()).toEqual([1, 1]);
  });
});

describe('what is in flight to a member with a session timeout', () => {
  test('a member with a session keeps its records after a cancel, and gets them again as the same attempt when it resumes', async () => {
    const stream = await scene.subscribe('billing', session);
    await ended(stream, 'CANCELLED');
    expect(members()).toHaveLength(1);
    const { memberId } = stream;
    const resumed = await scene.subscribe('billing', { ...session, memberId });
    expect(resumed.batches.map(({ attempts }) => attempts)).toEqual([[1, 1]]);
    expect((await scene.ack('billing', resumed, { upToOffset: 1 })).status).toBe('OK');
  });

  test('a session that expires after a cancel counts no attempt', async () => {
    await ended(await scene.subscribe('billing', session), 'CANCELLED');
    await scene.clock.advance(7_000);
    expect(members()).toEqual([]);
    expect(await nextAttempts()).toEqual([1, 1]);
  });

  test('a session that expires after a lost connection counts an attempt', async () => {
    await ended(await scene.subscribe('billing', session), 'CONNECTION_LOST');
    await scene.clock.advance(7_000);
    expect(await nextAttempts()).toEqual([2, 2]);
  });

  test('a member that resumes after a cancel and is lost then counts an attempt', async () => {
    const stream = await scene.subscribe('billing', session);
    await ended(stream, 'CANCELLED');
    await ended(await scene.subscribe('billing', { ...session, memberId: stream.memberId }), 'CONNECTION_LOST');
    await scene.clock.advance(7_000);
    expect(await nextAttempts()).toEqual([2, 2]);
  });
});

describe('what is in flight to a static member', () => {
  const instance = { sessionTimeoutMs: 30_000, instanceId: 'worker-1' };

  async function replaced(): Promise<readonly number[]> {
    const again = await scene.subscribe('billing', instance);
    return again.batches.flatMap(({ attempts }) => attempts);
  }

  test('a static member that is replaced while it reads counts no attempt', async () => {
    expect((await scene.subscribe('billing', instance)).offsets).toEqual([0, 1]);
    expect(await replaced()).toEqual([1, 1]);
  });

  test('a static member that is replaced after a cancel counts no attempt', async () => {
    await ended(await scene.subscribe('billing', instance), 'CANCELLED');
    expect(await replaced()).toEqual([1, 1]);
  });

  test('a static member that is replaced after a lost connection counts an attempt', async () => {
    await ended(await scene.subscribe('billing', instance), 'CONNECTION_LOST');
    expect(await replaced()).toEqual([2, 2]);
  });
});
