import {
  AckActionSchema,
  AckEntrySchema,
  AckRequestSchema,
  Assignor,
  AssignorSchema,
  HeartbeatRequestSchema,
  PullRequestSchema,
  SubscribeRequestSchema,
  type AckEntry,
  type AckRequest,
  type HeartbeatRequest,
} from '../../../gen/millrace/v1/broker_pb.js';
import type { StartPosition, TopicPartition } from '../../../gen/millrace/v1/record_pb.js';
import { limits } from '../../limits/limits.ts';
import * as field from './field-rules.ts';
import { offsetRangeRule } from './record-rules.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/**
 * Rules for the calls of BrokerService, except Publish and PublishStream, which the scan checks.
 */

export const sessionTimeout = field.duration(limits.sessionTimeoutMsMin, limits.sessionTimeoutMsMax);
export const rebalanceTimeout = field.duration(limits.rebalanceTimeoutMsMin, limits.rebalanceTimeoutMsMax);
export const maxPollInterval = field.duration(limits.maxPollIntervalMsMin, limits.maxPollIntervalMsMax);
export const metadata = field.bytes(limits.memberMetadataBytesMax);
export const assignor = field.oneOf(AssignorSchema);

/** Only one of the two may be set, because they would answer one question twice. */
export const oneAssignor: Rule<{ assignor: Assignor; assignorName: string }> = (request, _field, report) => {
  if (request.assignorName === '' || request.assignor === Assignor.UNSPECIFIED) return;
  report('assignor_name', 'must not be set together with assignor');
};

const topics = field.list(0, limits.memberTopicsMax, field.name);

export function subscribeRule(ruled: RuledFields, start: Rule<StartPosition | undefined>) {
  return message(
    ruled,
    SubscribeRequestSchema,
    {
      group: field.name,
      topics,
      start,
      maxInFlightRecords: field.count(limits.maxInFlightRecordsMax),
      maxInFlightBytes: field.longCount(limits.maxInFlightBytesMax),
      clientId: field.optionalName,
      memberId: field.optionalMemberId,
      sessionTimeout,
      rebalanceTimeout,
      assignor,
      assignorName: field.optionalName,
      groupInstanceId: field.optionalName,
      maxPollInterval,
      metadata,
    },
    (request, at, report) => {
      topicsOrMember(request, at, report);
      oneAssignor(request, at, report);
    },
  );
}

export function pullRule(ruled: RuledFields, start: Rule<StartPosition | undefined>) {
  return message(
    ruled,
    PullRequestSchema,
    {
      group: field.name,
      topics,
      start,
      maxRecords: field.count(limits.pullRecordsMax),
      maxBytes: field.longCount(limits.pullBytesMax),
      wait: field.duration(0, limits.pullWaitMsMax),
      memberId: field.optionalMemberId,
      clientId: field.optionalName,
      sessionTimeout,
      groupInstanceId: field.optionalName,
      maxPollInterval,
    },
    topicsOrMember,
  );
}

const topicsOrMember: Rule<{ topics: string[]; memberId: string }> = (request, _field, report) => {
  if (request.topics.length === 0 && request.memberId === '') report('topics', 'needs at least 1 without a member_id');
};

export function ackRule(ruled: RuledFields) {
  const entry = message(
    ruled,
    AckEntrySchema,
    {
      topic: field.name,
      partition: field.partition,
      lane: field.lane,
      action: field.oneOf(AckActionSchema),
      upToOffset: field.notNegative,
      offsets: field.offsets(limits.ackOffsetsMax),
      ranges: field.list(0, limits.ackRangesMax, offsetRangeRule(ruled)),
      delay: field.duration(0, limits.nackDelayMsMax),
      error: field.text(limits.nackErrorCharsMax),
    },
    oneWayToName,
  );
  const fields = {
    group: field.name,
    memberId: field.memberId,
    generation: field.requiredNumber,
    acks: field.list(1, limits.ackEntriesMax, entry),
  };
  return message(ruled, AckRequestSchema, fields, offsetsInAll);
}

const oneWayToName: Rule<AckEntry> = (entry, at, report) => {
  const ways = [entry.upToOffset !== undefined, entry.offsets.length > 0, entry.ranges.length > 0];
  if (ways.filter(Boolean).length !== 1) report(at, 'must have exactly one of up_to_offset, offsets and ranges');
};

const offsetsInAll: Rule<AckRequest> = (request, _field, report) => {
  let sum = 0;
  for (const [index, { offsets }] of request.acks.entries()) {
    const before = sum;
    sum += offsets.length;
    if (before <= limits.ackOffsetsMax && sum > limits.ackOffsetsMax && offsets.length <= limits.ackOffsetsMax) {
      report(`acks[${index}].offsets`, `with it the request has more than ${limits.ackOffsetsMax} offsets`);
    }
  }
};

export function heartbeatRule(ruled: RuledFields, topicPartition: Rule<TopicPartition>) {
  const fields = {
    group: field.name,
    memberId: field.memberId,
    generation: field.notNegative,
    revoked: field.list(0, limits.heartbeatPartitionsMax, topicPartition),
  };
  return message(ruled, HeartbeatRequestSchema, fields, generationOfRevoked);
}

const generationOfRevoked: Rule<HeartbeatRequest> = ({ revoked, generation }, _field, report) => {
  if (revoked.length > 0 && generation === undefined) report('generation', 'is required with revoked');
};
