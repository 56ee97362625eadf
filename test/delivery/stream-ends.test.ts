import { beforeEach, describe, expect, test } from 'vitest';
import { Scene, type FakeLog, type FakeStream } from './scene.ts';

let scene: Scene;
let log: FakeLog;
beforeEach(async () => {
  scene = await Scene.open();
  [log] = scene.addTopic('orders', 1) as [FakeLog];
  log.append(2);
});

const session = { sessionTimeoutMs: 6_000 };

/** The attempts in which the two records come to whoever reads next. */
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

const members = () => scene.delivery.describe('billing').members;

describe('what is in flight to a member without a session timeout', () => {
  test('counts no attempt when its client cancels the stream: five deploys are no dead letter', async () => {
    for (let deploy = 0; deploy < 5; deploy++) {
      await scene.gathered();
      const stream = await scene.subscribe('billing');
      expect(stream.batches.map(({ attempts }) => attempts)).toEqual([[1, 1]]);
      await ended(stream, 'CANCELLED');
      expect(members()).toEqual([]);
    }
    expect(await nextAttempts()).toEqual([1, 1]);
  });

  test('counts an attempt when its connection is lost', async () => {
    await ended(await scene.subscribe('billing'), 'CONNECTION_LOST');
    expect(members()).toEqual([]);
    expect(await nextAttempts()).toEqual([2, 2]);
  });

  test('counts no attempt when the broker ends the stream because it may have been replaced', async () => {
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
  test('stays with it when its client cancels the stream, and comes again with the same attempt when it resumes', async () => {
    const stream = await scene.subscribe('billing', session);
    await ended(stream, 'CANCELLED');
    expect(members()).toHaveLength(1);
    const { memberId } = stream;
    const resumed = await scene.subscribe('billing', { ...session, memberId });
    expect(resumed.batches.map(({ attempts }) => attempts)).toEqual([[1, 1]]);
    expect((await scene.ack('billing', resumed, { upToOffset: 1 })).status).toBe('OK');
  });

  test('counts no attempt when the session of a client that has cancelled ends', async () => {
    await ended(await scene.subscribe('billing', session), 'CANCELLED');
    await scene.clock.advance(7_000);
    expect(members()).toEqual([]);
    expect(await nextAttempts()).toEqual([1, 1]);
  });

  test('counts an attempt when its connection is lost and its session ends', async () => {
    await ended(await scene.subscribe('billing', session), 'CONNECTION_LOST');
    await scene.clock.advance(7_000);
    expect(await nextAttempts()).toEqual([2, 2]);
  });

  test('counts an attempt when it resumes after a cancel, and is lost then', async () => {
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

  test('counts no attempt when another process takes its place while it still reads', async () => {
    expect((await scene.subscribe('billing', instance)).offsets).toEqual([0, 1]);
    expect(await replaced()).toEqual([1, 1]);
  });

  test('counts no attempt when its client has cancelled before it is replaced', async () => {
    await ended(await scene.subscribe('billing', instance), 'CANCELLED');
    expect(await replaced()).toEqual([1, 1]);
  });

  test('counts an attempt when its connection was lost before it is replaced', async () => {
    await ended(await scene.subscribe('billing', instance), 'CONNECTION_LOST');
    expect(await replaced()).toEqual([2, 2]);
  });
});
