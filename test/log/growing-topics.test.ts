import { beforeEach, expect, test } from 'vitest';
import { partitionOfText } from '../../src/log/partitioner.ts';
import type { TopicRow } from '../../src/log/store.ts';
import { readAll, records, Scene } from './scene.ts';

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.open({ partitions: 2 });
});

/** Adds partitions to the topic in the database, then in the log. */
function grow(partitions: number): TopicRow {
  const row = scene.store.shared.addPartitions(1, partitions);
  scene.log.growTopic(row);
  return row;
}

const byKey = (text: string) => scene.publish(records(text), { partition: null });

test('a publish keeps its partition when its topic grows before the append, and later ones use the new number', async () => {
  expect(['abc', 'ab'].map((key) => [partitionOfText(key, 2), partitionOfText(key, 6)])).toEqual([
    [0, 2],
    [1, 5],
  ]);
  const gate = scene.hold('append');
  const inFlight = byKey('abc:1');
  await scene.clock.settle();
  const waiting = [byKey('abc:2'), byKey('ab:1')];
  grow(6);
  const after = [byKey('abc:3'), byKey('ab:2'), scene.publish(records('x'), { partition: 5 })];
  gate.open();
  await scene.clock.settle();
  expect([inFlight, ...waiting].map(({ ended }) => ended)).toEqual(['0/0', '0/1', '1/0']);
  expect(after.map(({ ended }) => ended)).toEqual(['2/0', '5/0', '5/1']);
  expect(await readAll(scene.partition(0))).toEqual(['0=abc:1', '1=abc:2']);
  expect(await readAll(scene.partition(5))).toEqual(['0=ab:2', '1=x']);
  // A second read of the ends would lock every partition, and publishers would wait for it.
  expect(scene.store.count('ends')).toBe(0);
});

test('a reader of an existing partition keeps its log and its listener when the topic grows', async () => {
  const [log] = scene.log.partitionLogs(1);
  let appends = 0;
  log!.addListener({ appended: () => appends++, trimmed: () => undefined });
  grow(3);
  scene.publish(records('x'));
  await scene.clock.settle();
  expect(scene.log.partitionLogs(1)).toHaveLength(3);
  expect(scene.partition()).toBe(log);
  expect([appends, log!.endOffset]).toEqual([1, 1]);
});

test('a list of partitions that a caller holds does not change when the topic grows', () => {
  const before = scene.log.partitionLogs(1);
  grow(3);
  expect(before).toHaveLength(2);
});

test('requests without keys are spread over the new partitions too', async () => {
  grow(4);
  const publishes = Array.from({ length: 4 }, (_, i) => scene.publish(records(`${i}`), { partition: null }));
  await scene.clock.settle();
  expect(publishes.map(({ ended }) => ended).toSorted()).toEqual(['0/0', '1/0', '2/0', '3/0']);
});

test('a repeated record is answered with its old partition after the topic has grown', async () => {
  const publish = () => scene.publish(records('ab:x'), { partition: null, idempotencyKeys: ['k'] });
  publish();
  await scene.clock.settle();
  grow(6);
  const again = publish();
  await scene.clock.settle();
  expect(again.ended).toBe('1/0 again');
});

test('a row that was read before a topic grew does not make the topic smaller', async () => {
  const old = scene.store.shared.topic(1).row;
  grow(4);
  scene.log.growTopic(old);
  scene.log.changeTopic({ ...old, description: 'changed' });
  expect(scene.log.topic('orders')).toMatchObject({ description: 'changed', partitions: { length: 4 } });
  const publish = scene.publish(records('x'), { partition: 3 });
  await scene.clock.settle();
  expect(publish.ended).toBe('3/0');
});

test('a change of a topic shows no partition that cannot be published to yet', async () => {
  scene.log.changeTopic(scene.store.shared.addPartitions(1, 4));
  expect(scene.log.topic('orders')?.partitions).toHaveLength(2);
  const refused = scene.publish(records('x'), { partition: 3 });
  await scene.clock.settle();
  expect(refused.ended).toBe('PARTITION_OUT_OF_RANGE');
});

test('a topic that is deleted while it grows stays deleted', () => {
  const row = scene.store.shared.addPartitions(1, 4);
  scene.log.removeTopic(1);
  scene.log.growTopic(row);
  expect([scene.log.topic('orders'), scene.log.partitionLogs(1)]).toEqual([undefined, []]);
});
