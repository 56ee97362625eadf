import { beforeEach, describe, expect, test } from 'vitest';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { partitionOfText } from '../../../src/log/partitioner.ts';
import { groupScene } from '../group-scene.ts';
import type { Site } from '../site.ts';

const { addPartitions, getTopic } = TopicService.method;

const scene = groupScene();
const { join } = scene;
let site: Site;
let topic = '';
let group = '';
beforeEach(() => {
  ({ site, topic, group } = scene);
});

const add = (partitions: number) => site.call(addPartitions, { name: topic, partitions });

/** Publishes a record with a key. @returns where it went. */
async function publishKey(key: string): Promise<number> {
  const records = [{ key, value: Buffer.from(key) }];
  const { results } = await site.call(BrokerService.method.publish, { topic, records });
  const { partition, offset } = results[0]!;
  site.confirm(topic, partition!, Number(offset), [key]);
  return partition!;
}

describe('a topic that gets more partitions while members stream', () => {
  test('new partitions go to the members, and new records of their keys arrive there', async () => {
    const member = await join().untilPartitions(0, 1);
    expect(await publishKey('ab')).toBe(partitionOfText('ab', 2));
    await member.untilReceived(1);
    const { generation } = member;
    const { topic: grown, partitions } = await add(6);
    expect(grown).toMatchObject({ name: topic, partitions: 6 });
    expect(partitions.map(({ partition, highWatermark }) => [partition, Number(highWatermark)])).toEqual([
      [0, 0],
      [1, 1],
      [2, 0],
      [3, 0],
      [4, 0],
      [5, 0],
    ]);
    expect(await publishKey('ab')).toBe(partitionOfText('ab', 6));
    for (const partition of [2, 3, 4]) await site.publish(topic, partition, [`to ${partition}`]);
    await member.untilPartitions(0, 1, 2, 3, 4, 5);
    await member.untilReceived(5);
    expect(member.received.map(({ partition, offset }) => `${partition}/${offset}`).toSorted()).toEqual([
      '1/0',
      '2/0',
      '3/0',
      '4/0',
      '5/0',
    ]);
    // What the member kept it may ack by the generation in which it got it.
    expect(await member.ack(1, { upToOffset: 0n }, generation)).toEqual(['OK', 1n]);
    expect(await member.ack(5, { upToOffset: 0n })).toEqual(['OK', 1n]);
  });

  test('new partitions are shared out among all present members', async () => {
    const first = await join().untilPartitions(0, 1);
    const second = join();
    const held = (): number[][] => [first.partitions, second.partitions];
    await expect.poll(() => held().map(({ length }) => length)).toEqual([1, 1]);
    const [kept, taken] = held();
    await add(6);
    await expect.poll(() => held().map(({ length }) => length)).toEqual([3, 3]);
    expect(held().flat().toSorted()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(held()).toEqual([expect.arrayContaining(kept!), expect.arrayContaining(taken!)]);
  });

  test('a group without members gets new partitions too, from their first record', async () => {
    const start = { position: { case: 'latest' as const, value: {} } };
    await site.publish(topic, 0, ['before']);
    await site.call(SubscriptionService.method.createSubscription, { group, topic, start });
    await add(3);
    await site.publish(topic, 2, ['a', 'b']);
    const member = await join({ start }).untilReceived(2);
    expect(member.received).toMatchObject([
      { partition: 2, offset: 0 },
      { partition: 2, offset: 1 },
    ]);
  });
});

test('a repeated AddPartitions, whose first answer was lost, gets the same answer and changes nothing', async () => {
  const first = await add(4);
  await site.publish(topic, 3, ['x']);
  const again = await add(4);
  expect(again.topic).toEqual(first.topic);
  expect(again.partitions.map(({ highWatermark }) => highWatermark)).toEqual([0n, 0n, 0n, 1n]);
  expect((await site.call(getTopic, { name: topic })).partitions).toEqual(again.partitions);
});

describe('an invalid number of partitions', () => {
  test('a topic cannot shrink, and the rejection names its number of partitions', async () => {
    await add(4);
    const refusal = await site.refusal(addPartitions, { name: topic, partitions: 3 });
    expect(refusal).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'PARTITIONS_CANNOT_SHRINK' });
    expect(refusal.message).toMatch(new RegExp(`"${topic}" has 4 partitions`));
  });

  test.each([
    ['zero', 0],
    ['negative', -1],
    ['beyond the limit', 1_001],
  ])('a number of partitions that is %s is rejected as an invalid field', async (_what, partitions) => {
    const refusal = await site.refusal(addPartitions, { name: topic, partitions });
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['partitions'] });
    expect(refusal.message).toContain('from 1 to 1000');
    expect((await site.call(getTopic, { name: topic })).topic?.partitions).toBe(2);
  });
});

test('the log has every confirmed record and no other after partitions were added', async () => {
  await site.expectAllThere();
});
