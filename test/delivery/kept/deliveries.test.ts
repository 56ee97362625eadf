import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { weights } from '../../../src/account/weights.ts';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import { Credit } from '../../../src/credit/credit.ts';
import { FeedMemory } from '../../../src/delivery/dispatch/feed-memory.ts';
import { Feed } from '../../../src/delivery/dispatch/feed.ts';
import { Member } from '../../../src/delivery/dispatch/member.ts';
import { handOut, nextPiece } from '../../../src/delivery/dispatch/piece.ts';
import { cursorOf } from '../../../src/delivery/subscriptions/subscription.ts';
import type { MemberId } from '../../../src/coordinator/group.ts';
import { limits } from '../../../src/limits/limits.ts';
import { roomyAccount, roomyKept, smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { FakeLog, noJumps, offsetsOf, ownSubscription, Scene, type FakeStream } from '../scene.ts';

const run = weights.deliveredRun;
const lookMs = 50;

/** A scene with room for so many runs of one record, and the only log of its topic. */
async function withRoom(runs: number): Promise<{ scene: Scene; log: FakeLog }> {
  const scene = await Scene.open({ account: smallAccount({ deliveries: runs * run }) });
  return { scene, log: scene.addTopic('orders', 1)[0]! };
}

/** Each record is appended, and goes out, alone. */
function appendEach(log: FakeLog, records: number): void {
  for (let n = 0; n < records; n++) log.append(1);
}

const counted = (scene: Scene): number => scene.account.kind('deliveries').bytes;
const blockedOn = ({ events }: FakeStream): unknown => events.findLast((event) => event.type === 'idle')?.blockedOn;

describe('without room', () => {
  test('a member whose records in flight fill the memory of the broker gets more, or gets none after its acks', async () => {
    const { scene, log } = await withRoom(40);
    const stream = await scene.subscribe('billing');
    appendEach(log, 60);
    await scene.clock.settle();
    expect(stream.offsets).toHaveLength(40);
    expect(counted(scene)).toBe(40 * run);
    await scene.clock.advance(1_000);
    expect(blockedOn(stream)).toBe('WINDOW');
    await scene.ack('billing', stream, { upToOffset: 9 });
    await scene.clock.advance(lookMs);
    expect(stream.offsets).toHaveLength(50);
  });

  test('a member that acks nothing leaves no room for the members of other groups', async () => {
    const { scene, log } = await withRoom(400);
    const hog = await scene.subscribe('hog', { maxInFlightRecords: 1_000 });
    appendEach(log, 500);
    await scene.clock.settle();
    expect(hog.offsets).toHaveLength(301);
    const other = await scene.subscribe('billing');
    expect(other.offsets.length).toBeGreaterThanOrEqual(99);
    await scene.ack('billing', other, { upToOffset: 98 });
    await scene.clock.advance(lookMs);
    expect(other.offsets.at(-1)).toBeGreaterThan(150);
  });

  test('a pull waits for the end of its time although there is room again, or ends without a reason', async () => {
    const { scene, log } = await withRoom(10);
    const hog = await scene.subscribe('hog');
    appendEach(log, 20);
    await scene.clock.settle();
    expect(hog.offsets).toHaveLength(10);
    const none = await scene.wait(scene.pull('billing', { waitMs: 10 }));
    expect([offsetsOf(none), none.blockedOn]).toEqual([[], 'WINDOW']);
    const waits = scene.pull('billing', { memberId: none.memberId, waitMs: 10_000 });
    await scene.ack('hog', hog, { upToOffset: 4 });
    await scene.clock.advance(lookMs);
    expect(offsetsOf(await waits).length).toBeGreaterThan(0);
  });

  test('an ack that needs more memory than there is changes a part of the cursor, or one that frees memory is refused', async () => {
    const { scene, log } = await withRoom(10);
    const stream = await scene.subscribe('billing');
    log.append(20);
    appendEach(log, 5);
    await scene.clock.settle();
    expect(stream.offsets).toHaveLength(25);
    scene.account.kind('deliveries').force(10 * run - counted(scene));
    const before = counted(scene);
    const busy = { reason: 'BROKER_BUSY', fields: { kind: 'deliveries' } };
    await expect(scene.ack('billing', stream, { runs: [1, 1, 3, 3] })).rejects.toMatchObject(busy);
    await expect(scene.ack('billing', stream, { action: 'NACK', runs: [1, 1, 3, 3] })).rejects.toMatchObject(busy);
    await expect(scene.ack('billing', stream, { action: 'RELEASE', runs: [1, 1] })).rejects.toMatchObject(busy);
    expect(counted(scene)).toBe(before);
    expect(scene.describe('billing').partitions[0]!.inFlightRecords).toBe(25);
    await scene.ack('billing', stream, { runs: [0, 0] });
    await scene.ack('billing', stream, { runs: [20, 20, 22, 22] });
    expect(counted(scene)).toBe(before - 2 * run);
    await scene.ack('billing', stream, { upToOffset: 24 });
    expect(counted(scene)).toBe(before - 6 * run - weights.batchSizes - 20 * 4);
  });
});

describe('records that are not in flight any more are still counted', () => {
  let scene: Scene;
  let log: FakeLog;
  let stream: FakeStream;
  beforeEach(async () => {
    scene = await Scene.open({ account: roomyAccount() });
    log = scene.addTopic('orders', 1)[0]!;
    log.append(20);
    stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    expect(counted(scene)).toBe(run + weights.batchSizes + 80);
  });

  test.each<[string, () => Promise<unknown>]>([
    [
      'acks one by one',
      async () => {
        for (let offset = 19; offset >= 0; offset--) await scene.ack('billing', stream, { runs: [offset, offset] });
      },
    ],
    [
      'an ack of them after a NACK',
      async () => {
        await scene.ack('billing', stream, { action: 'NACK', runs: [3, 3, 5, 5], delayMs: 1_000 });
        expect(counted(scene)).toBe(run + weights.batchSizes + 80 + 4 * weights.refusedRun);
        await scene.ack('billing', stream, { runs: [0, 19] });
      },
    ],
    [
      'a release, and the end of the stream',
      async () => {
        await scene.ack('billing', stream, { action: 'RELEASE', runs: [3, 4] });
        stream.stream!.closed('CANCELLED');
        await scene.clock.advance(40_000);
      },
    ],
    [
      'the loss of the stream, and the expiry of the member',
      async () => {
        stream.stream!.closed('CONNECTION_LOST');
        await scene.clock.advance(40_000);
      },
    ],
    [
      'a stream that takes the place of the first, and acks',
      async () => {
        const next = await scene.subscribe('billing', { memberId: stream.memberId, sessionTimeoutMs: 30_000 });
        expect(counted(scene)).toBe(run + weights.batchSizes + 80);
        await scene.ack('billing', next, { upToOffset: 19 });
      },
    ],
    [
      'a settlement of a part, and an ack of the others',
      async () => {
        const { memberId, generation } = stream;
        const entries = [{ topic: 'orders', partition: 0, lane: 0, runs: [4, 9] }];
        const settled = scene.delivery.settle({ group: 'billing', memberId, generation, entries, publishes: [] });
        await scene.clock.settle();
        expect(counted(scene)).toBe(3 * run + weights.batchSizes + 80);
        scene.commits.committed();
        await scene.wait(settled);
        await scene.ack('billing', stream, { upToOffset: 19 });
      },
    ],
    [
      'a settlement that fails, and an ack of all',
      async () => {
        const { memberId, generation } = stream;
        const entries = [{ topic: 'orders', partition: 0, lane: 0, runs: [4, 9] }];
        const settled = scene.delivery.settle({ group: 'billing', memberId, generation, entries, publishes: [] });
        const failed = expect(settled).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
        await scene.clock.settle();
        scene.commits.failed('DATABASE_UNAVAILABLE');
        await failed;
        await scene.ack('billing', stream, { runs: [0, 19] });
      },
    ],
    ['the end of the subscription', () => scene.wait(scene.delivery.subscriptions.cancel('billing', 'orders'))],
    ['the end of the topic', () => scene.wait(scene.delivery.deleteTopic(1, async () => undefined))],
    [
      'the end of the broker',
      async () => {
        const stopping = scene.delivery.stop();
        scene.owner.close();
        await stopping;
      },
    ],
  ])('after %s', async (_what, end) => {
    await end();
    await scene.clock.settle();
    expect(counted(scene)).toBe(0);
  });

  test('after the leases of a pull have expired, and the member too', async () => {
    const pulled = await scene.wait(scene.pull('audit', { maxRecords: 10, sessionTimeoutMs: 60_000 }));
    expect(offsetsOf(pulled)).toHaveLength(10);
    await scene.ack('billing', stream, { upToOffset: 19 });
    // The batch does not fit, so that it went out in two pieces.
    expect(counted(scene)).toBe(2 * (run + weights.batchSizes + 80));
    await scene.clock.advance(limits.pullLeaseMs + 1_000);
    expect(counted(scene)).toBe(weights.refusedRun);
    await scene.clock.advance(60_000);
    expect(counted(scene)).toBe(0);
  });
});

test('records in flight keep the bytes of their batch in memory, of which nobody counts any', async () => {
  const clock = new FakeClock();
  const log = new FakeLog(1, 'orders', 0);
  log.append(20);
  const batch = new WeakRef(log.cached(0)!.bytes);
  const parts = { clock, memory: new FeedMemory(roomyAccount()), kept: roomyKept(), jumps: noJumps };
  const key = { subscriptionId: 1, partition: 0, lane: 0 };
  const feed = new Feed(key, cursorOf(begunAt(0)), log, parts, ownSubscription);
  const member = new Member('a' as MemberId);
  member.hold(feed);
  const credit = new Credit(100, 10_000);
  const deliver = (): void => {
    const piece = nextPiece(member.seats[0]!, credit, 0, true);
    if (!('batch' in piece)) throw new Error('a batch is there');
    const codec = { encode: never, join: never, cut: never };
    handOut(piece, credit, { codec, delivered: { records: 0, bytes: 0 } }, null);
  };
  deliver();
  log.forgetAll();
  for (let tries = 0; tries < 50 && batch.deref() !== undefined; tries++) {
    await turn();
    globalThis.gc!();
  }
  expect(batch.deref()).toBe(undefined);
  expect(feed.cursor.inFlightRecords).toBe(20);
  expect(feed.cursor.ackUpTo(9)).toMatchObject({ records: 10, bytes: 100 });
});

function never(): never {
  throw new Error('nothing is encoded');
}
