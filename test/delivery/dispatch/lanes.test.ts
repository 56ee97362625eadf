import { beforeEach, describe, expect, test } from 'vitest';
import type { OffsetCommit, ResetOffsetsCommand } from '../../../src/delivery/ports/offsets.ts';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';
import { allCursors } from '../../conformance/loads.ts';

/** A topic with one partition and two lanes, which no call can create yet. */

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 1, 2);
});

/** A member that knows lanes, with three records of each lane in flight. */
async function reading(): Promise<FakeStream> {
  const member = await scene.subscribe('billing', { lanes: true });
  for (const log of logs) log.append(3);
  await scene.clock.settle();
  expect(member.offsets.toSorted()).toEqual([0, 0, 1, 1, 2, 2]);
  return member;
}

/** The committed offsets of lane 0 and lane 1. */
async function committed(): Promise<(readonly [lane: number, offset: number | undefined])[]> {
  const all = await scene.wait(scene.fetchOffsets('billing', []));
  return all.map(({ lane, committed: of }) => [lane, of?.offset]);
}

describe('on a topic with two lanes', () => {
  test('an ack that names no lane does not ack the same offsets of another lane', async () => {
    const member = await reading();
    const outcome = await scene.ack('billing', member, { lane: null, upToOffset: 2 });
    expect(outcome).toMatchObject({ status: 'LANE_REQUIRED', lane: 0, committedOffset: null });
    expect(await committed()).toEqual([
      [0, 0],
      [1, 0],
    ]);
  });

  test('an ack that names its lane acks that lane alone', async () => {
    const member = await reading();
    const outcome = await scene.ack('billing', member, { lane: 1, upToOffset: 2 });
    expect(outcome).toMatchObject({ status: 'OK', lane: 1, committedOffset: 3 });
    expect(await committed()).toEqual([
      [0, 0],
      [1, 3],
    ]);
    expect((await scene.ack('billing', member, { lane: 2, upToOffset: 0 })).status).toBe('NOT_OWNER');
  });

  test('a commit entry that names no lane commits nothing, and does not affect the entries beside it', async () => {
    const { memberId, generation } = await reading();
    const entry = { topic: 'orders', partition: 0, metadata: '' };
    const offsets: OffsetCommit[] = [
      { ...entry, lane: null, offset: 3 },
      { ...entry, lane: 1, offset: 2 },
      { ...entry, lane: 2, offset: 1 },
    ];
    const command = { group: 'billing', member: { memberId, generation }, offsets };
    const results = await scene.wait(scene.delivery.offsets.commit(command));
    expect(results.map(({ status }) => status)).toEqual(['LANE_REQUIRED', 'OK', 'UNKNOWN_PARTITION']);
    expect(await committed()).toEqual([
      [0, 0],
      [1, 2],
    ]);
  });

  test('a fetch that names no lane is not answered with the offset of one of them', async () => {
    await reading();
    const named = [null, 0, 1, 2].map((lane) => ({ topic: 'orders', partition: 0, lane }));
    const fetched = await scene.wait(scene.fetchOffsets('billing', named));
    expect(fetched.map(({ status, lane }) => [status, lane])).toEqual([
      ['LANE_REQUIRED', 0],
      ['OK', 0],
      ['OK', 1],
      ['UNKNOWN_PARTITION', 2],
    ]);
  });

  test('a reset that names no lane resets no cursor, whether it is a dry run or not', async () => {
    const member = await reading();
    for (const lane of [0, 1]) await scene.ack('billing', member, { lane, upToOffset: 2 });
    const reset = (lane: number | null, dryRun: boolean) => {
      const partitions = [{ topic: 'orders', partition: 0, lane }];
      const to = { type: 'earliest' } as const;
      const command: ResetOffsetsCommand = { group: 'billing', topics: [], partitions, to, dryRun, force: true };
      return scene.wait(scene.delivery.offsets.reset(command));
    };
    for (const dryRun of [true, false]) {
      await expect(reset(null, dryRun)).rejects.toMatchObject({ reason: 'LANE_REQUIRED', metadata: { lanes: '2' } });
      await expect(reset(2, dryRun)).rejects.toMatchObject({ reason: 'PARTITION_OUT_OF_RANGE' });
    }
    expect(await reset(1, true)).toMatchObject([{ lane: 1, previousOffset: 3, offset: 0 }]);
  });

  test('a start position that names no lane does not create a subscription that starts in one of them', async () => {
    const start = (lane: number | null) => {
      const partitions = [{ partition: 0, lane, offset: 0 }];
      const position = { type: 'offsets', offset: null, partitions } as const;
      return scene.wait(scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: position }));
    };
    await expect(start(null)).rejects.toMatchObject({ reason: 'LANE_REQUIRED' });
    await expect(start(2)).rejects.toMatchObject({ reason: 'INVALID_FIELD' });
    expect((await start(1)).logs.map(({ key }) => key.lane)).toEqual([0, 1]);
  });

  test('a member that does not know lanes is rejected, by whichever call it joins', async () => {
    const refused = { reason: 'LANE_REQUIRED', metadata: { topic: 'orders', lanes: '2' } };
    await expect(scene.subscribe('billing')).rejects.toMatchObject(refused);
    await expect(scene.join('billing')).rejects.toMatchObject(refused);
    await expect(scene.pull('billing')).rejects.toMatchObject(refused);
    expect(() => scene.describe('billing')).toThrow(Rejection);
  });
});

test('a client of a topic with one lane need not name the lane, and lane 1 does not exist', async () => {
  const [log] = scene.addTopic('invoices', 1);
  const member = await scene.subscribe('shipping', { topics: ['invoices'] });
  log!.append(2);
  await scene.clock.settle();
  const entry = { topic: 'invoices', upToOffset: 1 };
  expect(await scene.ack('shipping', member, { ...entry, lane: 1 })).toMatchObject({ status: 'NOT_OWNER', lane: 1 });
  expect(await scene.ack('shipping', member, { ...entry, lane: null })).toMatchObject({ status: 'OK', lane: 0 });
});

describe('a partition with two lanes', () => {
  /** A topic of two partitions with 2 records in lane 0 and 3 in lane 1. */
  let all: FakeLog[];
  beforeEach(() => {
    all = scene.addTopic('orders', 2, 2);
    for (const log of all) log.append(log.address.lane === 0 ? 2 : 3);
  });

  const inFlight = () => {
    return scene.describe('billing').partitions.map((one) => [one.partition, one.lane, one.inFlightRecords]);
  };
  const holders = () => scene.describe('billing').partitions.map(({ memberId }) => memberId);

  test('a partition with two lanes is delivered with both, assigned as one, and acked lane by lane', async () => {
    const member = await scene.subscribe('billing', { lanes: true });
    expect(member.assigned).toEqual([0, 1]);
    const both = [
      [0, 0, 2],
      [0, 1, 3],
      [1, 0, 2],
      [1, 1, 3],
    ];
    expect(inFlight()).toEqual(both);
    expect(await scene.ack('billing', member, { partition: 1, lane: 1, upToOffset: 2 })).toMatchObject({
      status: 'OK',
    });
    expect(inFlight()).toEqual([...both.slice(0, 3), [1, 1, 0]]);
    expect(await scene.ack('billing', member, { partition: 1, lane: 0, upToOffset: 2 })).toMatchObject({
      status: 'UNKNOWN_OFFSET',
    });
  });

  test('a partition with two lanes moves only when no lane has records in flight, and then with both lanes', async () => {
    const first = await scene.subscribe('billing', { lanes: true });
    await scene.gathered();
    const second = await scene.subscribe('billing', { lanes: true });
    await scene.gathered();
    const asked = first.of('revoking').flatMap(({ partitions }) => partitions.map(({ partition }) => partition));
    expect(asked).toHaveLength(1);
    const [partition] = asked as [number];
    await scene.ack('billing', first, { partition, lane: 0, upToOffset: 1 });
    await scene.gathered();
    expect([first.assigned, second.assigned]).toEqual([[0, 1], []]);
    await scene.ack('billing', first, { partition, lane: 1, upToOffset: 1 });
    await scene.gathered();
    expect(second.assigned).toEqual([]);
    await scene.ack('billing', first, { partition, lane: 1, upToOffset: 2 });
    await scene.gathered();
    expect([first.assigned, second.assigned]).toEqual([[1 - partition], [partition]]);
    const at = partition * 2;
    expect(holders().slice(at, at + 2)).toEqual([second.memberId, second.memberId]);
    for (const lane of [0, 1]) all[at + lane]!.append(1);
    await scene.clock.settle();
    expect(second.offsets.toSorted()).toEqual([2, 3]);
  });

  test('a partition with two lanes comes back with both from a lost member, and its records come again', async () => {
    const lost = await scene.subscribe('billing', { lanes: true });
    await scene.ack('billing', lost, { partition: 0, lane: 1, upToOffset: 1 });
    lost.stream!.closed('CONNECTION_LOST');
    await scene.gathered();
    const next = await scene.subscribe('billing', { lanes: true });
    await scene.gathered();
    const again = next.batches.map((batch) => [batch.partition, batch.offsets, batch.attempts[0]]);
    expect(again).toEqual([
      [0, [0, 1], 2],
      [0, [2], 2],
      [1, [0, 1], 2],
      [1, [0, 1, 2], 2],
    ]);
  });

  test('the next owner loads a partition with the cursors of both lanes and with its member', async () => {
    const session = { lanes: true, sessionTimeoutMs: 30_000 };
    const member = await scene.subscribe('billing', session);
    for (const [lane, upToOffset] of [
      [0, 0],
      [1, 2],
    ] as const) {
      await scene.ack('billing', member, { partition: 1, lane, upToOffset });
    }
    await scene.delivery.stop();
    const { clock, topics, store } = scene;
    store.shared.epoch++;
    scene = await Scene.open({ store: new MemoryGroupStore(store.shared), clock, topics });
    const resumed = await scene.subscribe('billing', { ...session, memberId: member.memberId });
    expect(resumed.assigned).toEqual([0, 1]);
    expect(await committed()).toEqual([
      [0, 0],
      [1, 0],
      [0, 1],
      [1, 3],
    ]);
  });

  test('a subscription starts in the lane that its start position names, in memory and in the store', async () => {
    const partitions = [{ partition: 1, lane: 1, offset: 2 }];
    const start = { type: 'offsets', offset: null, partitions } as const;
    const made = await scene.wait(scene.delivery.subscriptions.create({ group: 'late', topic: 'orders', start }));
    expect(made.logs.map((log) => log.status().committedOffset)).toEqual([0, 0, 0, 2]);
    const stored = await allCursors(new MemoryGroupStore(scene.store.shared));
    expect(stored.map(({ key, cursor }) => [key.partition, key.lane, cursor.committedOffset])).toEqual([
      [0, 0, 0],
      [0, 1, 0],
      [1, 0, 0],
      [1, 1, 2],
    ]);
  });
});
