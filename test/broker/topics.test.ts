import { beforeEach, describe, expect, test } from 'vitest';
import type { Services } from '../../src/broker/services.ts';
import { openBroker } from '../../src/broker/opening.ts';
import { Fault } from '../../src/errors/fault.ts';
import { limits } from '../../src/limits/limits.ts';
import { createBatchCodec } from '../../src/wire/batch-codec.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MemoryGroups, MemoryGroupStore } from '../support/memory-group-store.ts';
import { MemoryLogs, MemoryLogStore } from '../support/memory-log-store.ts';
import { MemoryTopicStore } from '../support/memory-topic-store.ts';

const name = 'orders';
const claim = { group: 'billing', topic: name, start: { type: 'latest' } } as const;

/** What the brokers of one database share. */
let shared: { readonly logs: MemoryLogs; readonly groups: MemoryGroups };
let topics: MemoryTopicStore;
let broker: Services;
beforeEach(async () => {
  shared = { logs: new MemoryLogs(), groups: new MemoryGroups() };
  broker = await open();
  await broker.topic.createTopic({ name, partitions: 2, idempotencyWindowMs: 120_000, description: '' });
  await broker.subscription.createSubscription(claim);
});

/** A broker of stores in memory. */
async function open(): Promise<Services> {
  const clock = new FakeClock();
  const { logs, groups } = shared;
  topics = new MemoryTopicStore(logs, groups);
  const store = new MemoryLogStore(clock, { shared: logs, groups });
  const opened = await openBroker({
    stores: { log: store, commits: store, topics, groups: new MemoryGroupStore(groups) },
    codec: createBatchCodec(),
    clock,
    awakeClock: clock,
    random: { uuid: () => 'id', fraction: () => 0.5 },
    limits,
    mayDeliver: () => true,
    onFenced: () => undefined,
    log: { info: () => undefined, warn: () => undefined },
  });
  return opened.services;
}

const add = (partitions: number) => broker.topic.addPartitions({ name, partitions });

/** How many partitions a topic, its log and a subscription of it are said to have. */
async function counts(): Promise<number[]> {
  const { topic, partitions } = await broker.topic.getTopic(name);
  const subscription = await broker.subscription.getSubscription('billing', name);
  return [topic.partitions, partitions.length, subscription.partitions.length];
}

describe('partitions whose addition has an unknown outcome', () => {
  beforeEach(async () => {
    topics.after = () => {
      throw new Fault('OUTCOME_UNKNOWN', 'cut');
    };
    await expect(add(5)).rejects.toMatchObject({ kind: 'OUTCOME_UNKNOWN' });
    topics.after = () => undefined;
  });

  test('partitions of an addition with an unknown outcome are there after a repeated call', async () => {
    expect(await counts()).toEqual([2, 2, 2]);
    expect(await add(5)).toMatchObject({ topic: { name, partitions: 5 }, partitions: { length: 5 } });
    expect(await counts()).toEqual([5, 5, 5]);
  });

  test('partitions of an addition with an unknown outcome count when a call for fewer is rejected', async () => {
    await expect(add(3)).rejects.toMatchObject({
      reason: 'PARTITIONS_CANNOT_SHRINK',
      metadata: { topic: name, partitions: '5' },
    });
    expect(await counts()).toEqual([5, 5, 5]);
  });

  test('partitions of an addition with an unknown outcome are not half there after a change of the topic', async () => {
    expect(await broker.topic.updateTopic({ name, description: 'changed' })).toMatchObject({
      description: 'changed',
    });
    expect(await counts()).toEqual([2, 2, 2]);
  });

  test('partitions of an addition with an unknown outcome are there on the next broker', async () => {
    broker = await open();
    expect(await counts()).toEqual([5, 5, 5]);
  });
});

test('two concurrent AddPartitions leave the larger number, and never shrink the topic', async () => {
  const [more, fewer] = await Promise.allSettled([add(7), add(4)]);
  expect(more).toMatchObject({ status: 'fulfilled', value: { partitions: { length: 7 } } });
  expect(fewer).toMatchObject({ status: 'rejected', reason: { reason: 'PARTITIONS_CANNOT_SHRINK' } });
  expect(await counts()).toEqual([7, 7, 7]);
});

test('a topic that is deleted while it grows is not found, and its subscriptions stay cancelled', async () => {
  const answered = Promise.withResolvers<void>();
  topics.after = (write) => (write === 'addPartitions' ? answered.promise : undefined);
  const adding = add(5);
  await broker.topic.deleteTopic(name);
  answered.resolve();
  await expect(adding).rejects.toMatchObject({ reason: 'TOPIC_NOT_FOUND' });
  await expect(broker.subscription.getSubscription('billing', name)).rejects.toMatchObject({
    reason: 'SUBSCRIPTION_NOT_FOUND',
  });
});
