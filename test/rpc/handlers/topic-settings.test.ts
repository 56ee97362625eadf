import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import {
  CreateTopicRequestSchema,
  UpdateTopicRequestSchema,
  type TopicSchema,
} from '../../../gen/millrace/v1/topic_pb.js';
import type { TopicDetails } from '../../../src/broker/commands.ts';
import { createTopicCommand, topicMessage, updateTopicCommand } from '../../../src/rpc/handlers/topic-settings.ts';

type TopicInit = MessageInitShape<typeof TopicSchema>;

const week = 604_800_000;
const day = 86_400_000;
const minute = { seconds: 60n };
const defaults = {
  afterCompletionMs: week,
  excusedKeepMs: week,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: day,
};

const created = (topic: TopicInit, defaultRetentionMs: number | null = week) =>
  createTopicCommand(create(CreateTopicRequestSchema, { topic: { name: 'orders', ...topic } }), defaultRetentionMs)
    .retention;

const changed = (topic: TopicInit, ...paths: string[]) => {
  const request = { topic: { name: 'orders', ...topic }, updateMask: { paths } };
  return updateTopicCommand(create(UpdateTopicRequestSchema, request), week);
};

test('a topic of a client that knows nothing of retention keeps records for the default of the broker', () => {
  expect(created({})).toEqual(defaults);
  expect(created({}, 60_000)).toEqual({ ...defaults, afterCompletionMs: 60_000 });
  expect(created({}, null)).toEqual({ ...defaults, afterCompletionMs: null });
});

test('what a topic says of its retention wins over the default of the broker', () => {
  const afterCompletion = { completion: { case: 'afterCompletion', value: minute } } as const;
  expect(created({ retention: afterCompletion }, null).afterCompletionMs).toBe(60_000);
  expect(created({ retention: { completion: { case: 'keepForever', value: true } } }).afterCompletionMs).toBeNull();
  expect(created({ retention: { excusedKeepFor: minute } })).toEqual({ ...defaults, excusedKeepMs: 60_000 });
  expect(created({ retention: { maxAge: minute } })).toEqual({ ...defaults, maxAgeMs: 60_000 });
  expect(created({ retention: { maxBytes: 1n << 40n } })).toEqual({ ...defaults, maxBytes: 2 ** 40 });
  const refuse = { policy: { case: 'refusePublish', value: true } } as const;
  expect(created({ zeroSubscriptions: refuse }).keepUnsubscribedMs).toBeNull();
  const keep = { policy: { case: 'keepFor', value: minute } } as const;
  expect(created({ zeroSubscriptions: keep }).keepUnsubscribedMs).toBe(60_000);
});

describe('an update', () => {
  const whole: TopicInit = {
    description: 'new',
    idempotencyWindow: minute,
    retention: {
      completion: { case: 'keepForever', value: true },
      excusedKeepFor: minute,
      maxAge: minute,
      maxBytes: 300_000_000n,
    },
    zeroSubscriptions: { policy: { case: 'refusePublish', value: true } },
  };

  test.each([
    ['description', { description: 'new' }],
    ['idempotency_window', { idempotencyWindowMs: 60_000 }],
    ['retention.keep_forever', { retention: { afterCompletionMs: null } }],
    ['retention.excused_keep_for', { retention: { excusedKeepMs: 60_000 } }],
    ['retention.max_age', { retention: { maxAgeMs: 60_000 } }],
    ['retention.max_bytes', { retention: { maxBytes: 300_000_000 } }],
    ['zero_subscriptions', { retention: { keepUnsubscribedMs: null } }],
    ['zero_subscriptions.refuse_publish', { retention: { keepUnsubscribedMs: null } }],
  ])('an update of %s changes nothing else, whatever else the topic says', (path, change) => {
    expect(changed(whole, path)).toEqual({ name: 'orders', ...change });
  });

  test('an update of fields that the topic leaves unset sets their defaults', () => {
    const off = { maxAgeMs: null, maxBytes: null };
    expect(changed({}, 'retention').retention).toEqual({ afterCompletionMs: week, excusedKeepMs: week, ...off });
    expect(changed({}, 'retention.max_age', 'retention.max_bytes').retention).toEqual(off);
    expect(changed({}, 'zero_subscriptions.refuse_publish').retention).toEqual({ keepUnsubscribedMs: day });
    expect(changed({}, 'retention.keep_forever').retention).toEqual({ afterCompletionMs: week });
  });
});

test('an answer names all of the retention, also what the client has not asked for', () => {
  const topic: TopicDetails = {
    name: 'orders',
    semantics: 'PUB_SUB',
    partitions: 3,
    idempotencyWindowMs: 1_000,
    description: '',
    createdAtMs: 0,
    retention: defaults,
  };
  expect(topicMessage(topic)).toMatchObject({
    retention: {
      completion: { case: 'afterCompletion', value: { seconds: 604_800n } },
      excusedKeepFor: { seconds: 604_800n },
    },
    zeroSubscriptions: { policy: { case: 'keepFor', value: { seconds: 86_400n } } },
  });
  const capped = { ...topic, retention: { ...defaults, maxAgeMs: 60_000, maxBytes: 300_000_000 } };
  expect(topicMessage(capped).retention).toMatchObject({ maxAge: minute, maxBytes: 300_000_000n });
  expect(topicMessage(topic).retention?.maxBytes).toBeUndefined();
  const open = { ...topic, retention: { ...defaults, afterCompletionMs: null, keepUnsubscribedMs: null } };
  expect(topicMessage(open)).toMatchObject({
    retention: { completion: { case: 'keepForever', value: true } },
    zeroSubscriptions: { policy: { case: 'refusePublish', value: true } },
  });
});
