import { beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { smallAccount } from '../../account/accounts.ts';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open({ account: smallAccount({ unsent: 1_000 }) });
  logs = scene.addTopic('orders', 1);
});

/** The client has left so many bytes unread. */
function unread(stream: FakeStream, bytes: number): void {
  stream.unsentBytes = bytes;
  stream.onDrain?.();
}

const { slowReaderMs, endedStreamMs } = limits;
const looksMs = 2 * 2_000;
const members = () => scene.describe('billing').members;

describe('a client that takes nothing while bytes wait', () => {
  test('a client that takes nothing for a minute loses its stream and its membership, and no attempt is counted', async () => {
    logs[0]!.append(2);
    const stream = await scene.subscribe('billing');
    expect(stream.offsets).toEqual([0, 1]);
    unread(stream, 100);
    await scene.clock.advance(slowReaderMs - looksMs);
    expect(stream.ended).toBe(null);
    await scene.clock.advance(2 * looksMs);
    expect(stream.ended?.error).toMatchObject({ reason: 'SLOW_READER', fields: { slowReaderMs } });
    expect(members()).toEqual([]);
    await scene.gathered();
    const next = await scene.subscribe('billing');
    expect(next.batches.flatMap(({ attempts }) => attempts)).toEqual([1, 1]);
  });

  test('a member with a session keeps its membership, and its expiry counts no attempt', async () => {
    logs[0]!.append(1);
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 120_000 });
    unread(stream, 100);
    await scene.clock.advance(slowReaderMs + looksMs);
    expect(stream.ended?.error?.reason).toBe('SLOW_READER');
    expect(members()).toHaveLength(1);
    await scene.clock.advance(120_000);
    expect(members()).toEqual([]);
    const next = await scene.subscribe('billing');
    expect(next.batches.flatMap(({ attempts }) => attempts)).toEqual([1]);
  });

  test('a stream that stays stuck after its end is cut off, because no status can get through', async () => {
    const stream = await scene.subscribe('billing');
    unread(stream, 100);
    await scene.clock.advance(slowReaderMs + looksMs);
    expect(stream.ended).not.toBe(null);
    expect(stream.isCut).toBe(false);
    await scene.clock.advance(endedStreamMs + looksMs);
    expect(stream.isCut).toBe(true);
  });

  test('a stream that was replaced and is stuck is cut off too, and not before its client had time to read', async () => {
    const options = { sessionTimeoutMs: 30_000 };
    const stream = await scene.subscribe('billing', options);
    unread(stream, 100);
    await scene.clock.advance(2 * endedStreamMs);
    await scene.subscribe('billing', { ...options, memberId: stream.memberId });
    expect(stream.ended?.error?.reason).toBe('REPLACED');
    await scene.clock.advance(endedStreamMs - 1_000);
    expect(stream.isCut).toBe(false);
    await scene.clock.advance(1_000 + looksMs);
    expect(stream.isCut).toBe(true);
  });

  test('a client that takes one event in 50 seconds keeps its stream, and so does one that has read all', async () => {
    const slow = await scene.subscribe('billing');
    const idle = await scene.subscribe('audit');
    for (let left = 900; left > 500; left -= 50) {
      unread(slow, left);
      await scene.clock.advance(50_000);
    }
    expect([slow.ended, idle.ended]).toEqual([null, null]);
  });
});

describe('what all clients have not read', () => {
  const unsent = (): number => scene.account.kind('unsent').bytes;

  test('a stream with unread bytes gets nothing at the limit over all streams, and goes on when others have read', async () => {
    const [stalled, half, reading] = [
      await scene.subscribe('a'),
      await scene.subscribe('b'),
      await scene.subscribe('c'),
    ];
    unread(stalled, 800);
    unread(half, 50);
    expect(unsent()).toBe(850);
    logs[0]!.append(1);
    await scene.clock.advance(100);
    expect([half.offsets, reading.offsets]).toEqual([[], [0]]);
    expect(scene.describe('b').members[0]!.blockedOn).toBe('SLOW_READER');
    unread(stalled, 100);
    await scene.clock.advance(100);
    expect(half.offsets).toEqual([0]);
  });

  test('a full limit holds up everything but the Joined of a new stream, until the clients have gone', async () => {
    const stalled = await scene.subscribe('a');
    unread(stalled, 1_000);
    const next = await scene.subscribe('b');
    expect(next.events.map(({ type }) => type)).toEqual(['joined']);
    stalled.stream!.closed('CONNECTION_LOST');
    await scene.clock.advance(100);
    expect(next.events.map(({ type }) => type)).toEqual(['joined', 'assigned']);
  });

  test('bytes are given back when they are taken, and all of them when a stream is over, but not before', async () => {
    const stream = await scene.subscribe('a');
    unread(stream, 500);
    unread(stream, 300);
    expect(unsent()).toBe(300);
    await scene.clock.advance(slowReaderMs + looksMs);
    expect(stream.ended).not.toBe(null);
    expect(unsent()).toBe(300);
    unread(stream, 200);
    expect(unsent()).toBe(200);
    stream.stream!.closed('CANCELLED');
    expect(unsent()).toBe(0);
    stream.stream!.closed('CANCELLED');
    expect(unsent()).toBe(0);
  });
});
