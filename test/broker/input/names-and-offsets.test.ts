import type { DescMethod, MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { Site } from '../site.ts';

const { publish, subscribe, pull, ack, heartbeat } = BrokerService.method;
const { joinGroup, syncGroup, leaveGroup, getGroup } = GroupService.method;
const { createTopic, getTopic, getTopicStorage, updateTopic } = TopicService.method;
const { addPartitions, deleteTopic, listTopics } = TopicService.method;
const { createSubscription, getSubscription, cancelSubscription, listSubscriptions } = SubscriptionService.method;
const { updateSubscription, pauseSubscription, resumeSubscription } = SubscriptionService.method;
const { readMessages } = MessageService.method;

let site: Site;
beforeAll(async () => {
  site = await Site.open();
  await site.createTopic('orders');
  await site.publish('orders', 0, ['a', 'b', 'c']);
});
afterEach(async () => {
  await site.publish('orders', 0, ['it still answers']);
});
afterAll(async () => {
  await site.close();
});

/** A call with something wrong in it, and the fields that its refusal has to name. */
function wrong<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>, fields: readonly string[]) {
  return { name: method.name, fields, refused: () => site.refusal(method, request) };
}

const records = [{ value: Buffer.from('x') }];
const entry = { topic: 'orders', partition: 0, upToOffset: 0n };

describe.each([
  ['a space', 'or ders', 'characters other than'],
  ['a slash', 'orders/eu', 'characters other than'],
  ['letters that are not ASCII', 'bestellungen-für-österreich', 'characters other than'],
  ['a NUL', 'orders\0', 'characters other than'],
  ['SQL', `orders'; DROP SCHEMA millrace;--`, 'characters other than'],
  ['201 characters', 'x'.repeat(201), 'name_chars_max = 200'],
])('a name with %s is rejected in every request', (_what, name, says) => {
  test.each([
    wrong(createTopic, { topic: { name } }, ['topic.name']),
    wrong(getTopic, { name }, ['name']),
    wrong(getTopicStorage, { name }, ['name']),
    wrong(updateTopic, { topic: { name }, updateMask: { paths: ['description'] } }, ['topic.name']),
    wrong(addPartitions, { name }, ['name', 'partitions']),
    wrong(deleteTopic, { name }, ['name']),
    wrong(publish, { topic: name, records }, ['topic']),
    wrong(subscribe, { group: name, topics: ['orders', name], clientId: name }, ['group', 'topics[1]', 'client_id']),
    wrong(pull, { group: name, topics: [name], clientId: name }, ['group', 'topics[0]', 'client_id']),
    wrong(ack, { group: name, memberId: 'm', generation: 1n, acks: [entry, { ...entry, topic: name }] }, [
      'group',
      'acks[1].topic',
    ]),
    wrong(heartbeat, { group: name, memberId: 'm' }, ['group']),
    wrong(joinGroup, { group: name, topics: [name] }, ['group', 'topics[0]']),
    wrong(syncGroup, { group: name, memberId: 'm' }, ['group']),
    wrong(leaveGroup, { group: name, memberId: 'm' }, ['group']),
    wrong(getGroup, { group: name }, ['group']),
    wrong(createSubscription, { group: name, topic: name }, ['group', 'topic']),
    wrong(getSubscription, { group: name, topic: name }, ['group', 'topic']),
    wrong(cancelSubscription, { group: name, topic: name }, ['group', 'topic']),
    wrong(pauseSubscription, { group: name, topic: name }, ['group', 'topic']),
    wrong(resumeSubscription, { group: name, topic: name }, ['group', 'topic']),
    wrong(updateSubscription, { subscription: { group: name, topic: name }, updateMask: { paths: ['dead_after'] } }, [
      'subscription.group',
      'subscription.topic',
    ]),
    wrong(listSubscriptions, { group: name }, ['group']),
    wrong(readMessages, { topic: name }, ['topic']),
  ])('$name rejects an invalid name with $fields', async ({ refused, fields }) => {
    const refusal = await refused();
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields });
    expect(refusal.message).toContain(says);
  });
});

describe('a missing name is rejected as required', () => {
  test.each([
    wrong(createTopic, {}, ['topic']),
    wrong(createTopic, { topic: {} }, ['topic.name']),
    wrong(publish, { records }, ['topic']),
    wrong(subscribe, {}, ['group', 'topics']),
    wrong(ack, { acks: [{}] }, ['group', 'member_id', 'generation', 'acks[0].topic', 'acks[0].partition', 'acks[0]']),
    wrong(getGroup, {}, ['group']),
  ])('$name rejects the missing $fields', async ({ refused, fields }) => {
    const refusal = await refused();
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields });
    expect(refusal.message).toMatch(/is required/);
  });
});

describe('a negative offset, partition or count is rejected', () => {
  const at = (entryOf: object) => ({
    group: 'g',
    memberId: 'm',
    generation: 1n,
    acks: [{ topic: 'orders', partition: 0, ...entryOf }],
  });
  const offsets = { offset: -1n, partitions: [{ partition: -1, offset: -7n }] };
  const start = { position: { case: 'offset' as const, value: offsets } };
  const startFields = ['offset', 'partitions[0].partition', 'partitions[0].offset'];
  test.each([
    wrong(readMessages, { topic: 'orders', from: { case: 'offset', value: -1n } }, ['offset']),
    wrong(readMessages, { topic: 'orders', partition: -1, maxRecords: -1, maxBytes: -1n }, [
      'partition',
      'max_records',
      'max_bytes',
    ]),
    wrong(publish, { topic: 'orders', records, expectedOffset: -1n }, ['expected_offset']),
    wrong(publish, { topic: 'orders', records, partition: -1 }, ['partition']),
    wrong(ack, at({ upToOffset: -1n }), ['acks[0].up_to_offset']),
    wrong(ack, at({ offsets: [3n, -1n] }), ['acks[0].offsets[1]']),
    wrong(ack, at({ ranges: [{ first: -2n, last: -1n }] }), ['acks[0].ranges[0].first', 'acks[0].ranges[0].last']),
    wrong(ack, at({ ranges: [{ first: 5n, last: 4n }] }), ['acks[0].ranges[0].last']),
    wrong(ack, { ...at({ upToOffset: 0n, partition: -1 }), generation: -1n }, ['generation', 'acks[0].partition']),
    wrong(
      subscribe,
      { group: 'g', topics: ['orders'], start },
      startFields.map((field) => `start.offset.${field}`),
    ),
    wrong(pull, { group: 'g', topics: ['orders'], maxRecords: -1 }, ['max_records']),
    wrong(listTopics, { pageSize: -1 }, ['page_size']),
  ])('$name rejects the negative $fields', async ({ refused, fields }) => {
    const refusal = await refused();
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: expect.arrayContaining([...fields]) });
    expect(refusal.fields).toHaveLength(fields.length);
  });
});

describe('an offset beyond the end is rejected with the extent of the log', () => {
  const beyond = { position: { case: 'offset' as const, value: { offset: 1_000_000n } } };
  test.each([
    wrong(readMessages, { topic: 'orders', from: { case: 'offset', value: 1_000_000n } }, []),
    wrong(subscribe, { group: 'late', topics: ['orders'], start: beyond }, []),
    wrong(createSubscription, { group: 'late', topic: 'orders', start: beyond }, []),
  ])('$name rejects an offset beyond the end with the extent of the log', async ({ refused }) => {
    const refusal = await refused();
    expect(refusal.reason).toBe('OFFSET_OUT_OF_RANGE');
    expect(refusal.message).toMatch(/\b1000000\b/);
    expect(refusal.message).toMatch(/partition 0 of topic "orders"/);
  });

  test('a wrong expected offset appends nothing, and the rejection names the next offset', async () => {
    const [next] = await site.publish('orders', 1, ['only']);
    const refusal = await site.refusal(publish, { topic: 'orders', partition: 1, records, expectedOffset: 7n });
    expect(refusal.reason).toBe('EXPECTED_OFFSET_MISMATCH');
    expect(refusal.message).toContain(String(next! + 1));
  });
});

test('the log has every confirmed record and no other after requests with invalid names and offsets', async () => {
  await site.expectAllThere();
});
