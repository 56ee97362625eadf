import {
  CommitOffsetsRequestSchema,
  FetchOffsetsRequestSchema,
  OffsetCommitSchema,
  ResetOffsetsRequestSchema,
  type CommitOffsetsRequest,
  type ResetOffsetsRequest,
} from '../../../gen/millrace/v1/offset_pb.js';
import type { TopicPartition } from '../../../gen/millrace/v1/record_pb.js';
import { limits } from '../../limits/limits.ts';
import * as field from './field-rules.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/** Rules for the calls of GroupService on offsets. */

export function commitOffsetsRule(ruled: RuledFields) {
  const entry = message(ruled, OffsetCommitSchema, {
    topic: field.name,
    partition: field.partition,
    lane: field.lane,
    offset: field.requiredNumber,
    metadata: field.utf8(limits.offsetMetadataBytesMax),
  });
  const fields = {
    group: field.name,
    memberId: field.optionalMemberId,
    generation: field.notNegative,
    offsets: field.list(1, limits.commitOffsetsMax, entry),
  };
  return message(ruled, CommitOffsetsRequestSchema, fields, generationOfMember);
}

const generationOfMember: Rule<CommitOffsetsRequest> = ({ memberId, generation }, _field, report) => {
  if (memberId !== '' && generation === undefined) report('generation', 'is required with a member_id');
  if (memberId === '' && generation !== undefined)
    report('generation', 'is of a member: without member_id there is none');
};

export function fetchOffsetsRule(ruled: RuledFields, partitionLog: Rule<TopicPartition>) {
  return message(ruled, FetchOffsetsRequestSchema, {
    group: field.name,
    partitions: field.list(0, limits.fetchOffsetsMax, partitionLog),
    pageSize: field.count(limits.fetchOffsetsMax),
    pageToken: field.pageToken,
  });
}

export function resetOffsetsRule(ruled: RuledFields, partitionLog: Rule<TopicPartition>) {
  const fields = {
    group: field.name,
    topics: field.list(0, limits.resetTopicsMax, field.name),
    partitions: field.list(0, limits.resetPartitionsMax, partitionLog),
    offset: field.notNegative,
    timestamp: field.timestamp,
    shiftBy: field.exact,
  };
  return message(ruled, ResetOffsetsRequestSchema, fields, someTarget);
}

const someTarget: Rule<ResetOffsetsRequest> = ({ to }, _field, report) => {
  if (to.case === undefined) report('to', 'must have one of earliest, latest, offset, timestamp and shift_by');
};
