import { beforeEach, describe, expect, test } from 'vitest';
import { offsetsOf, Scene, type FakeLog, type FakeStream } from '../scene.ts';

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 1);
  logs[0]!.append(3);
});

type Who = Pick<FakeStream, 'memberId' | 'generation'>;

const delayMs = 2_000;

/** @returns the status and the committed offset. */
async function ack(who: Who, entry: Parameters<Scene['ack']>[2]) {
  const { status, committedOffset } = await scene.ack('billing', who, entry);
  return [status, committedOffset];
}

async function commit(who: Who | null, offset: number) {
  const member = who === null ? null : { memberId: who.memberId, generation: who.generation };
  const offsets = [{ topic: 'orders', partition: 0, lane: 0, offset, metadata: '' }];
  const committed = await scene.wait(scene.delivery.offsets.commit({ group: 'billing', member, offsets }));
  return [committed[0]!.status, committed[0]!.committedOffset];
}

const cumulative = {
  'an ack': (who: Who) => ack(who, { upToOffset: 2 }),
  'a commit of offsets': (who: Who) => commit(who, 3),
};

const refusals = {
  NACK: { action: 'NACK', runs: [0, 0], delayMs },
  'NACK up to an offset': { action: 'NACK', upToOffset: 0, delayMs },
  RELEASE: { action: 'RELEASE', runs: [0, 0] },
  'RELEASE up to an offset': { action: 'RELEASE', upToOffset: 0 },
} as const;

describe.each(Object.entries(cumulative))('%s', (_name, say) => {
  test.each(Object.entries(refusals))(
    'a cumulative ack or commit loses no record for which %s was sent before',
    async (_refusal, entry) => {
      const stream = await scene.subscribe('billing');
      scene.mayDeliver = false;
      expect(await ack(stream, entry)).toEqual(['OK', 0]);
      expect(await say(stream)).toEqual(['UNKNOWN_OFFSET', 0]);
      scene.mayDeliver = true;
      await scene.clock.advance(delayMs + 200);
      // The record is in flight again, and the same ack may still be on its way.
      expect(stream.offsets).toEqual([0, 1, 2, 0, 1, 2]);
      expect(await say(stream)).toEqual(['UNKNOWN_OFFSET', 0]);
      expect(await ack(stream, { runs: [0, 0] })).toEqual(['OK', 1]);
      expect(await say(stream)).toEqual(['OK', 3]);
    },
  );

  test('a cumulative ack or commit loses no pulled record whose lease has expired, before and after the next pull', async () => {
    const pull = (memberId: Who['memberId'] | null) =>
      scene.wait(scene.pull('billing', { memberId, sessionTimeoutMs: 600_000 }));
    const member = await pull(null);
    await scene.clock.advance(31_000);
    expect(await say(member)).toEqual(['UNKNOWN_OFFSET', 0]);
    expect(offsetsOf(await pull(member.memberId))).toEqual([0, 1, 2]);
    expect(await say(member)).toEqual(['UNKNOWN_OFFSET', 0]);
    expect(await ack(member, { runs: [0, 1] })).toEqual(['OK', 2]);
    expect(await ack(member, { runs: [2, 2] })).toEqual(['OK', 3]);
  });
});

test('a cumulative ack of a replaced stream does not pass a refused record after the member resumes', async () => {
  const first = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
  await ack(first, { action: 'RELEASE', runs: [1, 1] });
  const { memberId } = first;
  const second = await scene.subscribe('billing', { sessionTimeoutMs: 30_000, memberId });
  expect(second.offsets).toEqual([0, 1, 2]);
  expect(await ack(second, { upToOffset: 0 })).toEqual(['OK', 1]);
  expect(await ack(second, { upToOffset: 2 })).toEqual(['UNKNOWN_OFFSET', 1]);
});

test('records that a resumed stream got again, and that were never refused, can be acked cumulatively', async () => {
  const first = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
  const second = await scene.subscribe('billing', { sessionTimeoutMs: 30_000, memberId: first.memberId });
  expect(second.offsets).toEqual([0, 1, 2]);
  expect(await ack(second, { upToOffset: 2 })).toEqual(['OK', 3]);
});

test('the next member can ack cumulatively records that the member before it has refused', async () => {
  const first = await scene.subscribe('billing');
  await ack(first, { action: 'NACK', runs: [0, 0], delayMs: 0 });
  first.stream!.closed('CONNECTION_LOST');
  await scene.clock.settle();
  const second = await scene.subscribe('billing');
  expect(await ack(second, { upToOffset: 2 })).toEqual(['OK', 3]);
});

test('a commit for a group without members passes records that its last member has refused', async () => {
  const stream = await scene.subscribe('billing');
  await ack(stream, { action: 'NACK', runs: [0, 0], delayMs: 0 });
  await scene.wait(scene.delivery.membership.leave('billing', stream.memberId));
  expect(await commit(null, 3)).toEqual(['OK', 3]);
});

test('an auto-ack stream is not blocked by records that its member has refused before', async () => {
  const first = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
  await ack(first, { action: 'NACK', runs: [0, 0], delayMs });
  const { memberId } = first;
  const second = await scene.subscribe('billing', { sessionTimeoutMs: 30_000, memberId, autoAck: true });
  await scene.clock.advance(delayMs + 200);
  logs[0]!.append(2);
  await scene.clock.advance(200);
  expect(second.offsets).toEqual([0, 1, 2, 3, 4]);
  expect((await scene.store.cursor({ subscriptionId: 1, partition: 0, lane: 0 }))?.committedOffset).toBe(5);
});

test('a pull with auto-ack does not ack un-acked records of an earlier pull', async () => {
  const session = { sessionTimeoutMs: 600_000 };
  const first = await scene.wait(scene.pull('billing', { ...session, maxRecords: 2 }));
  const { memberId } = first;
  const second = await scene.wait(scene.pull('billing', { ...session, memberId, autoAck: true }));
  expect(offsetsOf(second)).toEqual([2]);
  expect(scene.subscription('billing', 'orders').partitions[0]).toMatchObject({
    committedOffset: 0,
    lag: 2,
  });
  await scene.clock.advance(31_000);
  expect(offsetsOf(await scene.wait(scene.pull('billing', { ...session, memberId })))).toEqual([0, 1]);
});

test('a stream with auto-ack does not ack un-acked records of an earlier pull', async () => {
  const session = { sessionTimeoutMs: 600_000 };
  const stream = await scene.subscribe('billing', { ...session, autoAck: true });
  expect(stream.offsets).toEqual([0, 1, 2]);
  const { memberId } = stream;
  scene.mayDeliver = false;
  logs[0]!.append(1);
  await scene.clock.settle();
  scene.mayDeliver = true;
  const pulled = await scene.wait(scene.pull('billing', { ...session, memberId, waitMs: 50 }));
  expect(offsetsOf(pulled)).toEqual([3]);
  logs[0]!.append(1);
  await scene.clock.advance(200);
  expect(stream.offsets.at(-1)).toBe(4);
  expect(scene.subscription('billing', 'orders').partitions[0]).toMatchObject({
    committedOffset: 3,
    lag: 1,
  });
});
