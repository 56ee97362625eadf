import type { FieldMask } from '@bufbuild/protobuf/wkt';
import {
  AddPartitionsRequestSchema,
  CreateTopicRequestSchema,
  DeleteTopicRequestSchema,
  GetTopicRequestSchema,
  ListTopicsRequestSchema,
  TopicSchema,
  TopicSemanticsSchema,
  UpdateTopicRequestSchema,
} from '../../../gen/millrace/v1/topic_pb.js';
import { limits } from '../../limits/limits.ts';
import * as field from './field-rules.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/** Rules for the calls of TopicService. */

export function createTopicRule(ruled: RuledFields, partitionsMax: number) {
  return message(ruled, CreateTopicRequestSchema, { topic: field.required(topicRule(ruled, partitionsMax)) });
}

export function updateTopicRule(ruled: RuledFields, partitionsMax: number) {
  return message(ruled, UpdateTopicRequestSchema, {
    topic: field.required(topicRule(ruled, partitionsMax)),
    updateMask,
  });
}

function topicRule(ruled: RuledFields, partitionsMax: number) {
  return message(ruled, TopicSchema, {
    name: field.name,
    semantics: field.oneOf(TopicSemanticsSchema),
    partitions: field.count(partitionsMax),
    idempotencyWindow: field.duration(limits.idempotencyWindowMsMin, limits.idempotencyWindowMsMax),
    description: field.text(limits.descriptionCharsMax),
  });
}

const updatable = ['idempotency_window', 'description'];

const updateMask: Rule<FieldMask | undefined> = (mask, at, report) => {
  if (mask === undefined || mask.paths.length === 0) report(at, `must name at least one of ${updatable.join(', ')}`);
  for (const path of mask?.paths ?? []) {
    if (!updatable.includes(path)) report(at, `names a field that is not one of ${updatable.join(', ')}`);
  }
};

export function getTopicRule(ruled: RuledFields) {
  return message(ruled, GetTopicRequestSchema, {
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
