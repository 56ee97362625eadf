import { beforeEach, describe, expect, test } from 'vitest';
import type { Account } from '../../../src/account/account.ts';
import { weights } from '../../../src/account/weights.ts';
import { firstPage } from '../../../src/broker/pages/paging.ts';
import type { Services } from '../../../src/broker/services.ts';
import type { OpenBroker } from '../../../src/broker/opening.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { roomyAccount, smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { MemoryGroups, type MemoryGroupStore } from '../../support/memory-group-store.ts';
import { MemoryLogs } from '../../support/memory-log-store.ts';
import type { MemoryTopicStore } from '../../support/memory-topic-store.ts';
import { openInMemory, type SharedMemory } from './memory-broker.ts';

const name = 'orders';
const retention = {
  afterCompletionMs: 604_800_000,
  excusedKeepMs: 604_800_000,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: 86_400_000,
};
const claim = { group: 'billing', topic: name, start: { type: 'latest' } } as const;

/** What the brokers of one database share. */
let shared: SharedMemory;
let topics: MemoryTopicStore;
let groups: MemoryGroupStore;
let broker: Services;
let opened: OpenBroker;
let clock: FakeClock;
let account: Account;
beforeEach(async () => {
  account = roomyAccount();
  shared = { logs: new MemoryLogs(), groups: new MemoryGroups() };
  broker = await open();
  await broker.topic.createTopic({ name, partitions: 2, idempotencyWindowMs: 120_000, description: '', retention });
  await broker.subscription.createSubscription(claim);
});

async function open(): Promise<Services> {
  clock = new FakeClock();
  ({ opened, topics, groups } = await openInMemory({ clock, account }, shared));
  return opened.services;
}

const add = (partitions: number) => broker.topic.addPartitions({ name, partitions });

/** How many partitions a topic, its log and a subscription of it are said to have. */
async function counts(): Promise<number[]> {
  const { topic, partitions } = await broker.topic.getTopic(name, firstPage);
  const subscription = await broker.subscription.getSubscription('billing', name, firstPage);
  return [topic.partitions, partitions.items.length, subscription.partitions.items.length];
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
    expect(await add(5)).toMatchObject({ topic: { name, partitions: 5 }, partitions: { items: { length: 5 } } });
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
  expect(more).toMatchObject({ status: 'fulfilled', value: { partitions: { items: { length: 7 } } } });
  expect(fewer).toMatchObject({ status: 'rejected', reason: { reason: 'PARTITIONS_CANNOT_SHRINK' } });
  expect(await counts()).toEqual([7, 7, 7]);
});

test('a deletion that is repeated while the database is away ends with the stop, and not a pause later', async () => {
  const away = new Fault('DATABASE_UNAVAILABLE', 'away');
  let tries = 0;
  topics.after = () => {
    tries++;
    throw away;
  };
  const deleted = broker.topic.deleteTopic(name).catch((error: unknown) => error);
  await clock.advance(1_000);
  const before = tries;
  expect(before).toBeGreaterThan(1);
  opened.stop();
  expect([await deleted, tries]).toEqual([away, before]);
});

test('a topic that is deleted while it grows is not found, and its subscriptions stay cancelled', async () => {
  const answered = Promise.withResolvers<void>();
  topics.after = (write) => (write === 'addPartitions' ? answered.promise : undefined);
  const adding = add(5);
  await broker.topic.deleteTopic(name);
  answered.resolve();
  await expect(adding).rejects.toMatchObject({ reason: 'TOPIC_NOT_FOUND' });
  await expect(broker.subscription.getSubscription('billing', name, firstPage)).rejects.toMatchObject({
    reason: 'SUBSCRIPTION_NOT_FOUND',
  });
});

test('a topic that is created while one of its name is deleted is there afterwards', async () => {
  const mayDelete = Promise.withResolvers<void>();
  const deleteRows = topics.deleteTopic.bind(topics);
  topics.deleteTopic = async (topicId) => {
    await mayDelete.promise;
    await deleteRows(topicId);
  };
  const { topic: old } = await broker.topic.getTopic(name, firstPage);
  const deleting = broker.topic.deleteTopic(name);
  const creating = broker.topic.createTopic({
    name,
    partitions: 1,
    idempotencyWindowMs: 120_000,
    description: 'new',
    retention,
  });
  const created = expect(creating).resolves.toMatchObject({ description: 'new', retention });
  // Everything that does not wait for the deletion has its turn.
  await new Promise((resolve) => setImmediate(resolve));
  mayDelete.resolve();
  await deleting;
  await created;
  const [row, ...others] = await topics.loadTopics();
  expect([row?.description, others]).toEqual(['new', []]);
  expect(await broker.topic.getTopic(name, firstPage)).not.toMatchObject({ topic: old });
  await broker.subscription.createSubscription({ ...claim, group: 'shipping' });
});

describe('the account', () => {
  const counted = (): number => account.kind('topics').bytes;
  const create = (topic: string, partitions: number) =>
    broker.topic.createTopic({ name: topic, partitions, idempotencyWindowMs: 120_000, description: '', retention });
  const bytesOf = (topic: string, partitions: number): number =>
    weights.topic + topic.length + partitions * weights.partitionLog;

  test('has another sum than that of the topics after they were made, changed, grown and deleted', async () => {
    expect(counted()).toBe(bytesOf(name, 2));
    await create('more', 3);
    await broker.topic.addPartitions({ name: 'more', partitions: 5 });
    await broker.topic.updateTopic({ name: 'more', description: 'changed' });
    expect(counted()).toBe(bytesOf(name, 2) + bytesOf('more', 5) + 'changed'.length);
    await broker.topic.deleteTopic('more');
    await expect(create(name, 1)).rejects.toMatchObject({ reason: 'TOPIC_EXISTS' });
    expect(counted()).toBe(bytesOf(name, 2));
  });

  test('has no room, and the topic or its partitions are in the database all the same', async () => {
    account = smallAccount({ topics: 10_000 });
    broker = await open();
    const full = { reason: 'BROKER_FULL', fields: { kind: 'topics', bytesMax: 10_000 } };
    await expect(create('wide', 20)).rejects.toMatchObject(full);
    await expect(add(20)).rejects.toMatchObject(full);
    expect(await topics.loadTopics()).toMatchObject([{ name, partitions: { length: 2 } }]);
    expect(counted()).toBe(bytesOf(name, 2));
  });

  test('keeps what a load had counted before it failed, so that the next tries fill it', async () => {
    account = roomyAccount();
    const { logs, groups } = shared;
    const gone = (): never => {
      throw new Fault('DATABASE_UNAVAILABLE', 'gone');
    };
    shared = { logs, groups: new Proxy(groups, { get: gone }) };
    await expect(open()).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    shared = { logs, groups };
    expect(counted()).toBe(0);
    await open();
    expect(counted()).toBe(bytesOf(name, 2));
  });
});

describe.each(['before', 'after'] as const)(
  'a topic that is deleted %s the database has a subscription to it',
  (moment) => {
    test('a subscription whose topic is deleted meanwhile is rejected for that, and leaves nothing in its group', async () => {
      const written = Promise.withResolvers<void>();
      const wrote = Promise.withResolvers<void>();
      groups[moment] = (write) => {
        if (write !== 'createSubscriptions') return undefined;
        wrote.resolve();
        return written.promise;
      };
      const command = { group: 'late', topic: name, start: { type: 'earliest' } } as const;
      const rejected = expect(broker.subscription.createSubscription(command)).rejects.toMatchObject({
        reason: 'TOPIC_NOT_FOUND',
      });
      await wrote.promise;
      await broker.topic.deleteTopic(name);
      written.resolve();
      await rejected;
      const { partitions, group } = await broker.group.getGroup('late', firstPage);
      expect([partitions, group.topics]).toEqual([[], []]);
    });
  },
);
