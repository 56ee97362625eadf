import type { DescMethod, MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { AckStatus, BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { Site } from '../site.ts';

const { publish, subscribe, pull, ack, heartbeat } = BrokerService.method;
const { joinGroup, syncGroup, leaveGroup, getGroup, deleteGroup } = GroupService.method;
const { commitOffsets, fetchOffsets, resetOffsets } = GroupService.method;
const { createTopic, getTopic, getTopicStorage, updateTopic, addPartitions, deleteTopic } = TopicService.method;
const { createSubscription, getSubscription, cancelSubscription } = SubscriptionService.method;
const { updateSubscription, pauseSubscription, resumeSubscription } = SubscriptionService.method;
const { readMessages } = MessageService.method;

let site: Site;
let memberId: string;
beforeAll(async () => {
  site = await Site.open();
  await site.createTopic('orders');
  await site.publish('orders', 0, ['a', 'b', 'c']);
  const joined = await site.call(joinGroup, { group: 'billing', topics: ['orders'] });
  memberId = joined.memberId;
});
afterEach(async () => {
  await site.publish('orders', 0, ['it still answers']);
});
afterAll(async () => {
  await site.close();
});

/** A row of a table of calls. */
function row<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>) {
  return [method.name, (given: Site) => given.refusal(method, request)] as const;
}

const records = [{ value: Buffer.from('x') }];
const upTo = (topic: string, partition: number) => ({ topic, partition, upToOffset: 0n });

describe('an unknown topic is named, with how to make it', () => {
  test.each([
    row(publish, { topic: 'nowhere', records }),
    row(subscribe, { group: 'billing', topics: ['orders', 'nowhere'] }),
    row(pull, { group: 'billing', topics: ['nowhere'] }),
    row(joinGroup, { group: 'billing', topics: ['nowhere'] }),
    row(createSubscription, { group: 'billing', topic: 'nowhere' }),
    row(readMessages, { topic: 'nowhere' }),
    row(getTopic, { name: 'nowhere' }),
    row(getTopicStorage, { name: 'nowhere' }),
    row(updateTopic, { topic: { name: 'nowhere' }, updateMask: { paths: ['description'] } }),
    row(addPartitions, { name: 'nowhere', partitions: 9 }),
    row(deleteTopic, { name: 'nowhere' }),
  ])('%s of an unknown topic is rejected with how to create it', async (_name, refused) => {
    const refusal = await refused(site);
    expect(refusal.reason).toBe('TOPIC_NOT_FOUND');
    expect(refusal.message).toMatch(/"nowhere".*CreateTopic/);
  });

  test('a group that asked for an unknown topic is not created', async () => {
    await site.refusal(subscribe, { group: 'stillborn', topics: ['nowhere'] });
    await site.refusal(joinGroup, { group: 'stillborn', topics: ['nowhere'] });
    expect((await site.refusal(getGroup, { group: 'stillborn' })).reason).toBe('GROUP_NOT_FOUND');
  });
});

describe('an unknown group is named, with what makes one', () => {
  const who = { group: 'nobody', memberId: 'm-1' };
  test.each([
    row(ack, { ...who, generation: 1n, acks: [upTo('orders', 0)] }),
    row(heartbeat, { ...who, generation: 1n }),
    row(syncGroup, who),
    row(leaveGroup, who),
    row(getGroup, { group: 'nobody' }),
    row(deleteGroup, { group: 'nobody' }),
    row(commitOffsets, { ...who, generation: 1n, offsets: [{ topic: 'orders', partition: 0, offset: 0n }] }),
    row(commitOffsets, { group: 'nobody', offsets: [{ topic: 'orders', partition: 0, offset: 0n }] }),
    row(fetchOffsets, { group: 'nobody' }),
    row(resetOffsets, { group: 'nobody', to: { case: 'earliest', value: {} } }),
  ])('%s with an unknown group is rejected with what creates one', async (_name, refused) => {
    const refusal = await refused(site);
    expect(refusal.reason).toBe('GROUP_NOT_FOUND');
    expect(refusal.message).toMatch(/"nobody".*Subscribe/);
  });
});

describe('an unknown member must join again', () => {
  const who = { group: 'billing', memberId: 'stranger' };
  test.each([
    row(ack, { ...who, generation: 1n, acks: [upTo('orders', 0)] }),
    row(heartbeat, { ...who, generation: 1n }),
    row(syncGroup, who),
    row(leaveGroup, who),
    row(subscribe, { ...who, topics: ['orders'] }),
    row(pull, { ...who, topics: ['orders'] }),
    row(joinGroup, { ...who, topics: ['orders'] }),
    row(commitOffsets, { ...who, generation: 1n, offsets: [{ topic: 'orders', partition: 0, offset: 0n }] }),
  ])('%s of an unknown member is rejected, and the member must join again', async (_name, refused) => {
    const refusal = await refused(site);
    expect(refusal.reason).toBe('MEMBER_FENCED');
    expect(refusal.message).toMatch(/"stranger".*join again/);
  });
});

describe('an unknown subscription is named', () => {
  test.each([
    row(getSubscription, { group: 'nobody', topic: 'orders' }),
    row(cancelSubscription, { group: 'nobody', topic: 'orders' }),
    row(pauseSubscription, { group: 'nobody', topic: 'orders' }),
    row(resumeSubscription, { group: 'nobody', topic: 'orders' }),
    row(updateSubscription, {
      subscription: { group: 'nobody', topic: 'orders' },
      updateMask: { paths: ['dead_after'] },
    }),
    row(getSubscription, { group: 'billing', topic: 'nowhere' }),
  ])('%s of an unknown subscription is rejected', async (_name, refused) => {
    expect((await refused(site)).reason).toBe('SUBSCRIPTION_NOT_FOUND');
  });
});

describe('an unknown partition', () => {
  test.each([
    row(publish, { topic: 'orders', partition: 2, records }),
    row(readMessages, { topic: 'orders', partition: 2 }),
  ])('a %s with an unknown partition is rejected with the number of partitions', async (_name, refused) => {
    const refusal = await refused(site);
    expect(refusal.reason).toBe('PARTITION_OUT_OF_RANGE');
    expect(refusal.message).toContain('2');
  });

  test('an unknown partition in a start position is an invalid field', async () => {
    const value = { partitions: [0, 2].map((partition) => ({ partition, offset: 0n })) };
    const start = { position: { case: 'offset' as const, value } };
    const refusal = await site.refusal(createSubscription, { group: 'g', topic: 'orders', start });
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['start.offset.partitions[1].partition'] });
  });

  test('an unknown partition or topic in an ack rejects only its own entry', async () => {
    const { results } = await site.call(ack, {
      group: 'billing',
      memberId,
      generation: 1n,
      acks: [upTo('nowhere', 0), upTo('orders', 99), upTo('orders', 1)],
    });
    expect(results.map(({ status }) => status)).toEqual([
      AckStatus.NOT_OWNER,
      AckStatus.NOT_OWNER,
      AckStatus.UNKNOWN_OFFSET,
    ]);
    expect(results.map(({ committedOffset }) => committedOffset)).toEqual([undefined, undefined, 0n]);
  });
});

test('a topic or a subscription that exists is neither made twice nor changed', async () => {
  const again = await site.refusal(createTopic, { topic: { name: 'orders', partitions: 9 } });
  expect(again).toMatchObject({ reason: 'TOPIC_EXISTS', message: expect.stringContaining('"orders"') });
  expect((await site.call(getTopic, { name: 'orders' })).topic?.partitions).toBe(2);
  const twice = await site.refusal(createSubscription, { group: 'billing', topic: 'orders' });
  expect(twice.reason).toBe('SUBSCRIPTION_EXISTS');
});

test('the log has every confirmed record and no other after requests with unknown names', async () => {
  await site.expectAllThere();
});
