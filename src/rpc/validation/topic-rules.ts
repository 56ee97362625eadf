import {
  AddPartitionsRequestSchema,
  CreateTopicRequestSchema,
  DeleteTopicRequestSchema,
  GetTopicRequestSchema,
  GetTopicStorageRequestSchema,
  ListTopicsRequestSchema,
  RetentionSchema,
  TopicSchema,
  TopicSemanticsSchema,
  UpdateTopicRequestSchema,
  ZeroSubscriptionsSchema,
  type Topic,
  type UpdateTopicRequest,
} from '../../../gen/millrace/v1/topic_pb.js';
import { limits } from '../../limits/limits.ts';
import * as field from './field-rules.ts';
import { maskedRule, maskRule, topicMask, type MaskedOneof } from './masks.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/** Rules for the calls of TopicService. */

export function createTopicRule(ruled: RuledFields, partitionsMax: number) {
  return message(ruled, CreateTopicRequestSchema, { topic: field.required(topicRule(ruled, partitionsMax)) });
}

export function updateTopicRule(ruled: RuledFields, partitionsMax: number) {
  const masked = maskedRule(topicRule(ruled, partitionsMax), topicOneofs, ['name']);
  const changes: Rule<UpdateTopicRequest> = ({ topic, updateMask }, at, report) => {
    if (topic !== undefined) masked({ message: topic, at: 'topic', mask: updateMask }, at, report);
  };
  const fields = { topic: field.required(field.anything), updateMask: maskRule(topicMask) };
  return message(ruled, UpdateTopicRequestSchema, fields, changes);
}

const topicOneofs: readonly MaskedOneof<Topic>[] = [
  {
    cases: { 'retention.after_completion': 'afterCompletion', 'retention.keep_forever': 'keepForever' },
    chosen: ({ retention }) => retention?.completion.case,
  },
  {
    cases: { 'zero_subscriptions.keep_for': 'keepFor', 'zero_subscriptions.refuse_publish': 'refusePublish' },
    chosen: ({ zeroSubscriptions }) => zeroSubscriptions?.policy.case,
  },
];

function topicRule(ruled: RuledFields, partitionsMax: number) {
  const time = field.duration(limits.retentionMsMin, limits.retentionMsMax);
  return message(ruled, TopicSchema, {
    name: field.name,
    semantics: field.oneOf(TopicSemanticsSchema),
    partitions: field.count(partitionsMax),
    idempotencyWindow: field.duration(limits.idempotencyWindowMsMin, limits.idempotencyWindowMsMax),
    description: field.text(limits.descriptionCharsMax),
    retention: message(ruled, RetentionSchema, {
      afterCompletion: time,
      keepForever: field.onlyTrue,
      excusedKeepFor: time,
      maxAge: time,
      maxBytes: field.atLeast(limits.segmentBytesMax),
    }),
    zeroSubscriptions: message(ruled, ZeroSubscriptionsSchema, { keepFor: time, refusePublish: field.onlyTrue }),
  });
}

export function getTopicRule(ruled: RuledFields) {
  return message(ruled, GetTopicRequestSchema, {
    name: field.name,
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
  });
}

export function getTopicStorageRule(ruled: RuledFields) {
  return message(ruled, GetTopicStorageRequestSchema, {
    name: field.name,
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
  });
}

export function addPartitionsRule(ruled: RuledFields, partitionsMax: number) {
  return message(ruled, AddPartitionsRequestSchema, {
    name: field.name,
    partitions: field.requiredCount(partitionsMax),
  });
}

export function listTopicsRule(ruled: RuledFields) {
  return message(ruled, ListTopicsRequestSchema, {
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
  });
}

export function deleteTopicRule(ruled: RuledFields) {
  return message(ruled, DeleteTopicRequestSchema, { name: field.name });
}
