import type { MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TopicService, type RetentionSchema, type ZeroSubscriptionsSchema } from '../../../gen/millrace/v1/topic_pb.js';
import { Site } from '../site.ts';

const { createTopic, getTopic, getTopicStorage, updateTopic } = TopicService.method;

const second = { seconds: 1n };
const minute = { seconds: 60n };

let site: Site;
beforeAll(async () => {
  site = await Site.open();
  await site.createTopic('orders');
});
afterAll(async () => {
  await site.close();
});

/** All that a client can see of what the calls might have changed. */
async function seen(): Promise<unknown> {
  return (await site.call(getTopic, { name: 'orders' })).topic;
}

interface Settings {
  readonly retention?: MessageInitShape<typeof RetentionSchema>;
  readonly zeroSubscriptions?: MessageInitShape<typeof ZeroSubscriptionsSchema>;
}

const afterCompletion = (value: object): Settings => ({
  retention: { completion: { case: 'afterCompletion', value } },
});
const keepForever = (value: boolean): Settings => ({ retention: { completion: { case: 'keepForever', value } } });
const keepFor = (value: object): Settings => ({ zeroSubscriptions: { policy: { case: 'keepFor', value } } });
const refuse = (value: boolean): Settings => ({ zeroSubscriptions: { policy: { case: 'refusePublish', value } } });

describe('a retention that cannot be is refused by its field, and the topic stays as it is', () => {
  test.each<[string, Settings, string]>([
    [
      'a millisecond below a minute',
      afterCompletion({ seconds: 59n, nanos: 999_000_000 }),
      'retention.after_completion',
    ],
    ['0, which only a queue may have', afterCompletion({}), 'retention.after_completion'],
    ['a negative time', afterCompletion({ seconds: -60n }), 'retention.after_completion'],
    ['more than a hundred years', afterCompletion({ seconds: 3_153_600_001n }), 'retention.after_completion'],
    ['not for ever', keepForever(false), 'retention.keep_forever'],
    ['a short excuse', { retention: { excusedKeepFor: second } }, 'retention.excused_keep_for'],
    ['a short age', { retention: { maxAge: second } }, 'retention.max_age'],
    ['no age at all', { retention: { maxAge: {} } }, 'retention.max_age'],
    ['fewer bytes than a segment', { retention: { maxBytes: 268_435_455n } }, 'retention.max_bytes'],
    ['no bytes at all', { retention: { maxBytes: 0n } }, 'retention.max_bytes'],
    ['fewer bytes than none', { retention: { maxBytes: -1n } }, 'retention.max_bytes'],
    ['a short time without subscriptions', keepFor(second), 'zero_subscriptions.keep_for'],
    ['no time without subscriptions', keepFor({}), 'zero_subscriptions.keep_for'],
    ['publishes that are not refused', refuse(false), 'zero_subscriptions.refuse_publish'],
  ])('%s', async (_what, settings, path) => {
    const before = await seen();
    const made = await site.refusal(createTopic, { topic: { name: 'other', ...settings } });
    expect(made).toMatchObject({ reason: 'INVALID_FIELD', fields: [`topic.${path}`] });
    const topic = { name: 'orders', description: 'changed', ...settings };
    const changed = await site.refusal(updateTopic, { topic, updateMask: { paths: ['description', path] } });
    expect(changed).toMatchObject({ reason: 'INVALID_FIELD', fields: [`topic.${path}`] });
    expect(await seen()).toEqual(before);
    expect((await site.refusal(getTopic, { name: 'other' })).reason).toBe('TOPIC_NOT_FOUND');
  });
});

describe('an update that contradicts itself is refused, and the topic stays as it is', () => {
  test.each<[Settings, string[], string]>([
    [keepForever(true), ['description', 'retention.after_completion'], 'topic.retention.after_completion'],
    [afterCompletion(minute), ['description', 'retention.keep_forever'], 'topic.retention.keep_forever'],
    [keepFor(minute), ['description', 'zero_subscriptions.refuse_publish'], 'topic.zero_subscriptions.refuse_publish'],
    [refuse(true), ['description', 'zero_subscriptions.keep_for'], 'topic.zero_subscriptions.keep_for'],
    [{}, ['retention.after_completion', 'retention.keep_forever'], 'update_mask'],
    [{}, ['zero_subscriptions.keep_for', 'zero_subscriptions.refuse_publish'], 'update_mask'],
    [{}, ['description', 'retention.no_such_field'], 'update_mask'],
    [{}, ['description', 'retention.after_completion.seconds'], 'update_mask'],
    [{}, ['description', 'partitions'], 'update_mask'],
    [{}, [], 'update_mask'],
  ])('%o under the mask %o', async (settings, paths, field) => {
    const before = await seen();
    const topic = { name: 'orders', description: 'changed', ...settings };
    const refusal = await site.refusal(updateTopic, { topic, updateMask: { paths } });
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: [field] });
    expect(await seen()).toEqual(before);
  });
});

test('a mask that names what the topic leaves unset sets the defaults, and changes nothing else', async () => {
  const name = 'refunds';
  const settings = { ...afterCompletion(minute), ...refuse(true) };
  const { topic: created } = await site.call(createTopic, { topic: { name, description: 'kept', ...settings } });
  const changed = async (...paths: string[]) => {
    const { topic } = await site.call(updateTopic, { topic: { name, description: 'ignored' }, updateMask: { paths } });
    expect((await site.call(getTopic, { name })).topic).toEqual(topic);
    return topic!;
  };
  const afterTime = await changed('retention.after_completion');
  const week = { case: 'afterCompletion', value: expect.objectContaining({ seconds: 604_800n }) as unknown };
  expect(afterTime).toEqual({ ...created, retention: { ...created!.retention, completion: week } });
  const afterAll = await changed('retention', 'zero_subscriptions');
  expect(afterAll.zeroSubscriptions?.policy).toMatchObject({ case: 'keepFor', value: { seconds: 86_400n } });
  expect(afterAll).toMatchObject({ description: 'kept', retention: afterTime.retention });
});

test.each([
  ['a page token that no page can give', { pageToken: 'a token' }, 'page_token'],
  ['more segments than a page may have', { pageSize: 1_001 }, 'page_size'],
  ['fewer than none', { pageSize: -1 }, 'page_size'],
])('what a topic stores is not shown by %s', async (_what, page, field) => {
  const refusal = await site.refusal(getTopicStorage, { name: 'orders', ...page });
  expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: [field] });
});
