import { expect, test } from 'vitest';
import type { LogEnd } from '../../src/log/store.ts';
import { BelowLogStart } from '../../src/log/store.ts';
import { readAll, records, Scene } from './scene.ts';

const start = (startOffset: number, partition = 0) => ({ partition, lane: 0, startOffset });

/** A topic of one partition with ten records, in segments that end at 4 and 8. */
async function stored(): Promise<Scene> {
  const scene = await Scene.open();
  const publish = async (...values: string[]): Promise<void> => {
    for (const value of values) {
      scene.publish(records(value));
      await scene.clock.settle();
    }
  };
  await publish('a', 'b', 'c', 'd');
  scene.store.moveSegment(1);
  await publish('e', 'f', 'g', 'h');
  scene.store.moveSegment(1);
  await publish('i', 'j');
  return scene;
}

test('a trim moves the start, tells its listeners once, and never goes back', async () => {
  const scene = await stored();
  const log = scene.partition();
  const heard: number[] = [];
  log.addListener({ appended: () => undefined, trimmed: () => heard.push(log.startOffset) });
  await scene.log.trim(1, [start(4)], 'MAX_BYTES');
  await scene.log.trim(1, [start(4)], 'MAX_BYTES');
  // The starts of an older drop arrive late.
  await scene.log.trim(1, [start(2)], 'MAX_AGE');
  expect([log.startOffset, heard]).toEqual([4, [4]]);
  expect(await readAll(log)).toEqual(['4=e', '5=f', '6=g', '7=h', '8=i', '9=j']);
});

test('the reason of the last drop is known to those who jump', async () => {
  const scene = await stored();
  expect(scene.log.gapReason(1)).toBe('RETENTION');
  await scene.log.trim(1, [start(4)], 'MAX_AGE');
  expect(scene.log.gapReason(1)).toBe('MAX_AGE');
});

test('no cache serves a record below the start', async () => {
  const scene = await stored();
  const log = scene.partition();
  log.addListener({ appended: () => undefined, trimmed: () => undefined });
  scene.publish(records('k'));
  await scene.clock.settle();
  expect(log.cached(10)).not.toBeNull();
  await log.fetch(0);
  expect(log.cached(0)).not.toBeNull();
  await scene.log.trim(1, [start(11)], 'RETENTION');
  expect([log.cached(0), log.cached(10)]).toEqual([null, null]);
  await expect(log.fetch(10)).rejects.toBeInstanceOf(BelowLogStart);
});

test('a reader of dropped records learns the start, and is told that they are gone', async () => {
  const scene = await stored();
  const log = scene.partition();
  scene.store.shared.drop(1, 1);
  const heard: number[] = [];
  log.addListener({ appended: () => undefined, trimmed: () => heard.push(log.startOffset) });
  await expect(log.fetch(1)).rejects.toBeInstanceOf(BelowLogStart);
  expect([log.startOffset, heard]).toEqual([4, [4]]);
  await expect(log.fetch(1)).rejects.toBeInstanceOf(BelowLogStart);
  expect(scene.store.count('read')).toBe(1);
});

test('records that are missing although nothing has dropped them are a fault of the database, not a loop', async () => {
  const scene = await stored();
  scene.store.before = (call) => {
    if (call === 'read') throw new BelowLogStart('no such table');
  };
  await expect(scene.partition().fetch(1)).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  expect(scene.said.filter((line) => line.includes('offset 1'))).toHaveLength(1);
  await expect(scene.partition().fetch(1)).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  expect(scene.said.filter((line) => line.includes('offset 1'))).toHaveLength(1);
});

test('ends that were read before a drop do not bring its records back', async () => {
  const scene = await stored();
  const log = scene.partition();
  let old: LogEnd[] = [];
  scene.store.before = (call) => {
    if (call === 'ends') old = scene.store.shared.ends(1);
  };
  const topic = scene.log.topicAtWork('orders')!;
  topic.forget(topic.partitions, 0);
  await topic.refresh();
  expect(old[0]!.startOffset).toBe(0);
  await scene.log.trim(1, [start(8)], 'RETENTION');
  topic.forget(topic.partitions, 0);
  for (const end of old) topic.partitions[end.partition]!.learn(end);
  expect(log.startOffset).toBe(8);
});
