import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { UpdateTopicRequestSchema } from '../../../gen/millrace/v1/topic_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { createValidation } from '../../../src/rpc/validation/validation.ts';

const validation = createValidation(limits);

const update = (topic: object, paths: string[]) => {
  const request = create(UpdateTopicRequestSchema, { topic: { name: 'orders', ...topic }, updateMask: { paths } });
  validation.updateTopic(request);
};

test('a wrong field that the mask does not name is ignored, or a whole topic that was read could not be sent back', () => {
  const wrong = {
    partitions: 1_000_000,
    idempotencyWindow: { nanos: 1 },
    retention: { completion: { case: 'keepForever', value: false }, excusedKeepFor: { seconds: 1n } },
    zeroSubscriptions: { policy: { case: 'keepFor', value: { seconds: 1n } } },
  };
  expect(() => {
    update(wrong, ['description']);
  }).not.toThrow();
  expect(() => {
    update(wrong, ['description', 'retention']);
  }).toThrow('topic.retention.keep_forever: is only true, or unset');
});

test('a whole message and one of its fields may stand in the same mask', () => {
  const value = { seconds: 60n };
  expect(() => {
    update({ retention: { completion: { case: 'afterCompletion', value } } }, [
      'retention',
      'retention.after_completion',
      'retention.after_completion',
    ]);
  }).not.toThrow();
});

test('a mask may name a member of a choice that the topic leaves unset, which sets its default', () => {
  for (const path of ['retention.keep_forever', 'retention.after_completion', 'zero_subscriptions.refuse_publish'])
    expect(() => {
      update({}, [path]);
    }, path).not.toThrow();
});
