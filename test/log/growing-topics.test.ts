import { beforeEach, expect, test } from 'vitest';
import { partitionOfText } from '../../src/log/partitioner.ts';
import type { TopicRow } from '../../src/log/store.ts';
import { readAll, records, Scene } from './scene.ts';

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.open({ partitions: 2 });
});

/** The database has so many partitions now, and the log takes them in. */
function grow(partitions: number): TopicRow {
  const row = scene.store.shared.addPartitions(1, partitions);
  scene.log.growTopic(row);
  return row;
}

const byKey = (text: string) => scene.publish(records(text), { partition: null });

test('a publish that waits or is in flight while its topic grows goes where it was to go, the next one by the new number', async () => {
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
  // Reading the ends locks every partition: publishers would wait for it.
  expect(scene.store.count('ends')).toBe(1);
});

test('readers of the partitions that a topic had do not notice that it grows', async () => {
  const [log] = scene.log.partitionLogs(1);
  let appends = 0;
  log!.addListener({ appended: () => appends++ });
  grow(3);
  scene.publish(records('x'));
  await scene.clock.settle();
  expect(scene.log.partitionLogs(1)).toHaveLength(3);
  expect(scene.partition()).toBe(log);
  expect([appends, log!.endOffset]).toEqual([1, 1]);
});

test('a list of partitions that somebody works with does not change under the work', () => {
  const before = scene.log.partitionLogs(1);
  grow(3);
  expect(before).toHaveLength(2);
});

test('requests without keys reach the new partitions in their turn', async () => {
  grow(4);
  const publishes = Array.from({ length: 4 }, (_, i) => scene.publish(records(`${i}`), { partition: null }));
  await scene.clock.settle();
  expect(publishes.map(({ ended }) => ended).toSorted()).toEqual(['0/0', '1/0', '2/0', '3/0']);
});

test('a record that is repeated after the topic has grown is known where it was appended', async () => {
  const publish = () => scene.publish(records('ab:x'), { partition: null, idempotencyKeys: ['k'] });
  publish();
  await scene.clock.settle();
  grow(6);
  const again = publish();
  await scene.clock.settle();
  expect(again.ended).toBe('1/0 again');
});

test('a topic that has grown is not made smaller by what was read of it before', async () => {
  const old = scene.store.shared.topic(1).row;
  grow(4);
  scene.log.growTopic(old);
  scene.log.changeTopic({ ...old, description: 'changed' });
  expect(scene.log.topic('orders')).toMatchObject({ description: 'changed', partitions: { length: 4 } });
  const publish = scene.publish(records('x'), { partition: 3 });
  await scene.clock.settle();
  expect(publish.ended).toBe('3/0');
});

test('a change of a topic brings no partitions that the log has not taken in: what is shown is what can be published to', async () => {
  scene.log.changeTopic(scene.store.shared.addPartitions(1, 4));
  expect(scene.log.topic('orders')?.partitions).toHaveLength(2);
  const refused = scene.publish(records('x'), { partition: 3 });
  await scene.clock.settle();
  expect(refused.ended).toBe('PARTITION_OUT_OF_RANGE');
});

test('a topic that is deleted while it grows does not come back', () => {
  const row = scene.store.shared.addPartitions(1, 4);
  scene.log.removeTopic(1);
  scene.log.growTopic(row);
  expect([scene.log.topic('orders'), scene.log.partitionLogs(1)]).toEqual([undefined, []]);
});
