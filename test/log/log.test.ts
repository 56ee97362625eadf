import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { Rejection } from '../../src/errors/rejections/rejection.ts';
import { command, Gate, places, readAll, records, Scene } from './scene.ts';

async function refusalOf(publish: Promise<unknown>): Promise<Rejection> {
  const error: unknown = await publish.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Rejection);
  return error as Rejection;
}

describe('a publish', () => {
  test('a publish is answered when it is durable, not when it is queued', async () => {
    const scene = await Scene.open();
    const gate = new Gate();
    scene.store.after = (call) => (call === 'append' ? gate.pass() : undefined);
    const publish = scene.publish(records('x', 'y'));
    await scene.clock.settle();
    // The append is committed, but its answer has not arrived.
    expect([publish.ended, scene.partition().endOffset, scene.store.shared.log(1, 0).endOffset]).toEqual([
      'pending',
      0,
      2,
    ]);
    gate.open();
    await scene.clock.settle();
    expect([publish.ended, scene.partition().endOffset]).toEqual(['0/0 0/1', 2]);
  });

  test('a publish with ack mode NONE is answered when queued, and its failure is no unhandled rejection', async () => {
    const scene = await Scene.open();
    scene.store.before = (call) => {
      if (call === 'append') throw new Fault('DATABASE_UNAVAILABLE', 'gone');
    };
    expect(await scene.publisher.publish(command('orders', records('x'), { committed: false }))).toBeNull();
    expect(scene.store.count('append')).toBe(0);
    await scene.clock.settle();
    expect(scene.store.count('append')).toBe(1);
  });

  test('a publish that does not fit the queue is rejected with the name of the limit until there is room', async () => {
    const queueBytesMax = 290;
    const scene = await Scene.open({ queueBytesMax });
    const gate = scene.hold('append');
    scene.publish(records('x'));
    await scene.clock.settle();
    // Each record weighs 64 bytes more than it has, and the request in flight is in memory too.
    const waiting = scene.publish(records('x'.repeat(80)));
    const refusal = await refusalOf(scene.publisher.publish(command('orders', records('x'.repeat(20)))));
    expect(refusal.reason).toBe('PUBLISH_QUEUE_FULL');
    expect(refusal.message).toContain('--publish-queue-bytes-max');
    expect(refusal.metadata).toEqual({ publishQueueBytesMax: `${queueBytesMax}` });
    const small = scene.publish(records('x'.repeat(10)));
    expect(scene.stats()).toMatchObject({ queuedBytes: 92, queuedRecords: 2 });
    gate.open();
    await scene.clock.settle();
    const next = scene.publish(records('x'.repeat(20)));
    await scene.clock.settle();
    expect([waiting, small, next].map(({ ended }) => ended)).toEqual(['0/1', '0/2', '0/3']);
    expect(scene.stats()).toMatchObject({ queuedBytes: 0, queuedRecords: 0, appends: 3, appendedRecords: 4 });
  });

  test('a publish to an unknown topic, partition or lane is rejected with the name or number that exists', async () => {
    const scene = await Scene.open({ partitions: 3 });
    const nowhere = await refusalOf(scene.publisher.publish(command('order', records('x'))));
    expect([nowhere.reason, nowhere.metadata]).toEqual(['TOPIC_NOT_FOUND', { topic: 'order' }]);
    const outside = await refusalOf(scene.publisher.publish(command('orders', records('x'), { partition: 3 })));
    expect([outside.reason, outside.metadata]).toEqual([
      'PARTITION_OUT_OF_RANGE',
      { topic: 'orders', partitions: '3' },
    ]);
    const torn = command('orders', records('a:x', 'b:y', 'd:z'), { partition: null, expectedOffset: 0 });
    const refusal = await refusalOf(scene.publisher.publish(torn));
    expect([refusal.reason, refusal.violations[0]?.field]).toEqual(['INVALID_FIELD', 'expected_offset']);
    const otherLane = command('orders', records('x'), { partition: 1, expectedOffset: 0, lane: 1 });
    const noSuchLane = await refusalOf(scene.publisher.publish(otherLane));
    expect([noSuchLane.reason, noSuchLane.metadata]).toEqual([
      'PARTITION_OUT_OF_RANGE',
      { topic: 'orders', lanes: '1' },
    ]);
    expect(scene.stats().queuedRecords).toBe(0);
  });

  test('records of one key share a partition, and so do keyless records of one request', async () => {
    const scene = await Scene.open({ partitions: 3 });
    const publish = async (...values: readonly string[]): Promise<string[]> => {
      const publishing = scene.publisher.publish(command('orders', records(...values), { partition: null }));
      await scene.clock.settle();
      return places((await publishing)!);
    };
    const first = await publish('a:1', 'x', 'a:2', 'y');
    const second = await publish('a:3', 'x');
    expect(first).toEqual(['2/0', '0/0', '2/1', '0/1']);
    expect(second).toEqual(['2/2', '1/0']);
    expect(await readAll(scene.partition(2))).toEqual(['0=a:1', '1=a:2', '2=a:3']);
  });
});

describe('a shutdown', () => {
  test('a drain answers all queued publishes, rejects new ones and leaves no timer', async () => {
    const scene = await Scene.open();
    scene.start();
    const gate = scene.hold('append');
    const taken = [scene.publish(records('a'))];
    await scene.clock.settle();
    taken.push(scene.publish(records('b')), scene.publish(records('c'), { committed: false }));
    let drained = 0;
    // Two calls, because a signal may come twice.
    for (let i = 0; i < 2; i += 1) void scene.drain().then(() => drained++);
    const late = scene.publish(records('d'));
    await scene.clock.settle();
    expect([drained, late.ended]).toEqual([0, 'DRAINING']);
    gate.open();
    await scene.clock.settle();
    expect(taken.map(({ ended }) => ended)).toEqual(['0/0', '0/1', 'queued']);
    expect(await readAll(scene.partition())).toEqual(['0=a', '1=b', '2=c']);
    expect([drained, scene.clock.pending]).toEqual([2, 0]);
    await scene.drain();
  });

  test('a drain ends although the database is unreachable, because failed publishes are answered too', async () => {
    const scene = await Scene.open();
    scene.store.before = () => {
      throw new Fault('DATABASE_UNAVAILABLE', 'gone');
    };
    const publish = scene.publish(records('x'));
    let drained = false;
    void scene.drain().then(() => (drained = true));
    await scene.clock.settle();
    expect([publish.ended, drained]).toEqual(['DATABASE_UNAVAILABLE', true]);
  });

  test('a broker that loses ownership fails waiting publishes at once, and those in flight by their outcome', async () => {
    const scene = await Scene.open();
    scene.start();
    const gate = scene.hold('append');
    const inFlight = scene.publish(records('a'));
    await scene.clock.settle();
    const waiting = scene.publish(records('b'));
    let drained = false;
    void scene.drain().then(() => (drained = true));
    scene.stop();
    const late = scene.publish(records('c'));
    await scene.clock.settle();
    expect([waiting.ended, late.ended, drained]).toEqual(['FENCED', 'FENCED', false]);
    scene.store.shared.epoch++;
    gate.open();
    await scene.clock.settle();
    expect([inFlight.ended, drained, scene.clock.pending]).toEqual(['FENCED', true, 0]);
    expect(scene.transactions).toEqual([]);
  });
});
