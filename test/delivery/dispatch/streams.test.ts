import { beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '../../../src/errors/fault.ts';
import { Scene, type FakeLog } from '../scene.ts';

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 2);
});

describe('delivery', () => {
  test('the next member gets the un-acked records of the one before, and no acked ones', async () => {
    logs[0]!.append(5);
    const first = await scene.subscribe('billing');
    expect(first.offsets).toEqual([0, 1, 2, 3, 4]);
    expect(await scene.ack('billing', first, { upToOffset: 2 })).toMatchObject({ status: 'OK', committedOffset: 3 });
    first.stream!.closed('CONNECTION_LOST');
    await scene.clock.settle();
    const second = await scene.subscribe('billing');
    expect(second.batches).toEqual([{ partition: 0, offsets: [3, 4], attempts: [2, 2] }]);
  });

  test('every group gets every record', async () => {
    const streams = [await scene.subscribe('a'), await scene.subscribe('b')];
    logs[1]!.append(3);
    await scene.clock.settle();
    for (const stream of streams)
      expect(stream.batches).toEqual([{ partition: 1, offsets: [0, 1, 2], attempts: [1, 1, 1] }]);
  });

  test('a member with max in flight 1 never has two records', async () => {
    logs[0]!.append(3);
    logs[1]!.append(3);
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 1 });
    for (let acked = 0; acked < 6; acked++) {
      await scene.clock.advance(100);
      expect(stream.batches).toHaveLength(acked + 1);
      const { partition, offsets } = stream.batches[acked]!;
      await scene.ack('billing', stream, { partition, upToOffset: offsets[0]! });
    }
    await scene.clock.advance(100);
    expect(stream.offsets.sort()).toEqual([0, 0, 1, 1, 2, 2]);
  });

  test('an ack in one partition unblocks another that waits for credit', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 2 });
    logs[0]!.append(2);
    await scene.clock.settle();
    logs[1]!.append(2);
    await scene.clock.advance(100);
    expect(stream.batches).toHaveLength(1);
    await scene.ack('billing', stream, { partition: 0, upToOffset: 1 });
    expect(stream.batches.map(({ partition }) => partition)).toEqual([0, 1]);
  });

  test('a client that does not read its stream gets no more than the limit of unsent bytes', async () => {
    const stream = await scene.subscribe('billing');
    stream.stall();
    logs[0]!.append(1);
    await scene.clock.advance(1_500);
    expect(stream.batches).toEqual([]);
    expect(stream.of('idle')).toEqual([]);
    stream.readOn();
    await scene.clock.settle();
    expect(stream.of('idle')).toMatchObject([{ blockedOn: 'SLOW_READER', lag: 1 }]);
    expect(stream.offsets).toEqual([0]);
  });

  test('a stream that is not read gets no event for ten rebalances and their idle times, and later the outcome of them', async () => {
    const stream = await scene.subscribe('billing');
    stream.stall();
    const before = stream.events.length;
    for (let round = 0; round < 10; round++) {
      const other = await scene.subscribe('billing');
      await scene.clock.advance(2_000);
      other.stream!.closed('CANCELLED');
      await scene.clock.advance(2_000);
    }
    expect(stream.events.length).toBe(before);
    stream.readOn();
    await scene.clock.settle();
    expect(stream.events.slice(before).map(({ type }) => type)).toEqual(['assigned', 'assigned', 'idle']);
    expect(stream.assigned).toEqual([0, 1]);
  });

  test('records that are only in the database are fetched once for a stream, and delivered', async () => {
    logs[0]!.append(3);
    logs[0]!.append(3);
    logs[0]!.cachedFrom = 3;
    const stream = await scene.subscribe('billing');
    expect(stream.offsets).toEqual([0, 1, 2, 3, 4, 5]);
    expect(logs[0]!.fetches).toBe(1);
  });

  test('a broker delivers nothing while it may have been replaced', async () => {
    const stream = await scene.subscribe('billing');
    scene.mayDeliver = false;
    logs[0]!.append(1);
    await scene.clock.advance(500);
    expect(stream.batches).toEqual([]);
    scene.mayDeliver = true;
    await scene.clock.advance(200);
    expect(stream.offsets).toEqual([0]);
  });

  test('a stream with auto-ack acks exactly the records that it has handed to the transport', async () => {
    const stream = await scene.subscribe('billing', { autoAck: true, maxInFlightRecords: 1 });
    logs[0]!.append(4);
    await scene.clock.advance(200);
    expect(stream.offsets).toEqual([0, 1, 2, 3]);
    const stored = await scene.store.cursor({ subscriptionId: 1, partition: 0, lane: 0 });
    expect(stored?.committedOffset).toBe(4);
  });
});

describe('a stream says why it is idle', () => {
  test('an idle event for CAUGHT_UP comes after a second, then every ten seconds', async () => {
    const stream = await scene.subscribe('billing');
    await scene.clock.advance(999);
    expect(stream.of('idle')).toEqual([]);
    await scene.clock.advance(1);
    expect(stream.of('idle')).toMatchObject([{ blockedOn: 'CAUGHT_UP', lag: 0, inFlightRecords: 0 }]);
    await scene.clock.advance(10_000);
    expect(stream.of('idle')).toHaveLength(2);
  });

  test('an idle event names CREDIT while the member has no credit left', async () => {
    logs[0]!.append(2);
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 1 });
    await scene.clock.advance(1_500);
    expect(stream.of('idle').at(-1)).toMatchObject({
      blockedOn: 'CREDIT',
      lag: 2,
      inFlightRecords: 1,
      inFlightBytes: 10,
    });
  });

  test('an idle event names NO_ASSIGNMENT while no partition is left for the member', async () => {
    await scene.subscribe('billing');
    await scene.subscribe('billing');
    const third = await scene.subscribe('billing');
    await scene.clock.advance(1_500);
    expect(third.of('idle').at(-1)?.blockedOn).toBe('NO_ASSIGNMENT');
  });

  test('an idle event names RETRY while a refused record waits for its delay', async () => {
    logs[0]!.append(2);
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { action: 'NACK', upToOffset: 0, delayMs: 5_000 });
    await scene.clock.advance(2_000);
    expect(stream.of('idle').at(-1)?.blockedOn).toBe('RETRY');
    await scene.clock.advance(3_100);
    expect(stream.batches.at(-1)).toEqual({ partition: 0, offsets: [0, 1], attempts: [2, 1] });
  });
});

describe('acks', () => {
  test('an ack is answered after its round is durable, not before', async () => {
    logs[0]!.append(1);
    const stream = await scene.subscribe('billing');
    const commit = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'appendAcks' ? commit.promise : undefined);
    let answered = false;
    const acking = scene.ack('billing', stream, { upToOffset: 0 }).then((outcome) => {
      answered = true;
      return outcome;
    });
    await scene.clock.settle();
    expect(answered).toBe(false);
    commit.resolve();
    expect((await acking).status).toBe('OK');
  });

  test('an ack whose write failed is not answered with OK, and is written by the next round', async () => {
    logs[0]!.append(2);
    const stream = await scene.subscribe('billing');
    scene.store.before = () => {
      throw new Fault('DATABASE_UNAVAILABLE', 'away');
    };
    await expect(scene.ack('billing', stream, { upToOffset: 0 })).rejects.toMatchObject({
      kind: 'DATABASE_UNAVAILABLE',
    });
    scene.store.before = () => undefined;
    expect(await scene.ack('billing', stream, { upToOffset: 0 })).toMatchObject({ status: 'ALREADY_ACKED' });
    const stored = await scene.store.cursor({ subscriptionId: 1, partition: 0, lane: 0 });
    expect(stored?.committedOffset).toBe(1);
  });

  test('an ack of undelivered records, of another topic, or of an unknown member changes nothing', async () => {
    logs[0]!.append(2);
    const stream = await scene.subscribe('billing');
    expect((await scene.ack('billing', stream, { upToOffset: 7 })).status).toBe('UNKNOWN_OFFSET');
    expect((await scene.ack('billing', stream, { topic: 'nothing', upToOffset: 0 })).status).toBe('NOT_OWNER');
    expect((await scene.ack('billing', stream, { partition: 9, upToOffset: 0 })).status).toBe('NOT_OWNER');
    const stranger = { memberId: 'stranger' as typeof stream.memberId, generation: 1 };
    await expect(scene.ack('billing', stranger, { upToOffset: 0 })).rejects.toMatchObject({ reason: 'MEMBER_FENCED' });
    await expect(scene.ack('nobody', stream, { upToOffset: 0 })).rejects.toMatchObject({ reason: 'GROUP_NOT_FOUND' });
    expect(
      (await scene.ack('billing', { ...stream, memberId: stream.memberId, generation: 99 }, { upToOffset: 0 })).status,
    ).toBe('STALE_GENERATION');
    expect(scene.subscription('billing', 'orders').partitions[0]).toMatchObject({
      committedOffset: 0,
      lag: 2,
    });
  });

  test('an idle group and its heartbeats write nothing', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    const before = scene.store.writes;
    for (let beat = 0; beat < 100; beat++) {
      scene.delivery.membership.heartbeat({ group: 'billing', memberId: stream.memberId, generation: 1, revoked: [] });
      await scene.clock.advance(3_000);
    }
    expect(scene.store.writes).toBe(before);
  });
});
