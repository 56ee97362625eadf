import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  AckResponseSchema,
  AckResultSchema,
  AckStatus,
  HeartbeatResponseSchema,
  PullResponseSchema,
  type AckResult,
  type BrokerService,
  type HeartbeatRequest,
  type PullRequest,
  type SubscribeRequest,
} from '../../../gen/millrace/v1/broker_pb.js';
import type {
  AckOutcome,
  HeartbeatCommand,
  PullCommand,
  PullOutcome,
  SubscribeCommand,
} from '../../broker/commands.ts';
import type { MemberId } from '../../coordinator/group.ts';
import type { EventSink, MemberStream } from '../../delivery/ports/session.ts';
import { limits } from '../../limits/limits.ts';
import { appendFields } from '../../wire/batch-event.ts';
import { given, msOr, numberOr } from '../validation/defaults.ts';
import { ackCommand } from '../translation/ack-command.ts';
import type { Call, HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { assignorName, enterCommand } from '../translation/commands.ts';
import { blockedOn, gapInit, timestamp, topicPartitions } from '../translation/responses.ts';

export function brokerService({
  services,
  validation,
}: HandlerContext): UnaryHandlers<typeof BrokerService, 'publish'> {
  return {
    async pull(call, request) {
      validation.pull(request);
      const pulled = await services().broker.pull(call.caller, pullCommand(call, request));
      return appendFields(toBinary(PullResponseSchema, pullResponse(pulled)), pulled.fields);
    },

    async ack(_call, request) {
      validation.ack(request);
      const outcomes = await services().broker.ack(ackCommand(request));
      return create(AckResponseSchema, { results: outcomes.map(ackResult) });
    },

    async heartbeat(_call, request) {
      validation.heartbeat(request);
      const beat = await services().broker.heartbeat(heartbeatCommand(request));
      return create(HeartbeatResponseSchema, {
        generation: BigInt(beat.generation),
        heartbeatInterval: durationFromMs(beat.heartbeatIntervalMs),
        revoking: topicPartitions(beat.revoking),
        planWanted: beat.planWanted,
        moreRevoking: beat.moreRevoking,
      });
    },
  };
}

export type SubscribeHandler = (call: Call, request: SubscribeRequest, sink: EventSink) => Promise<MemberStream>;

export function subscribeHandler({ services, validation }: HandlerContext): SubscribeHandler {
  return async (call, request, sink) => {
    validation.subscribe(request);
    return services().broker.subscribe(call.caller, subscribeCommand(call, request), sink);
  };
}

function subscribeCommand(call: Call, request: SubscribeRequest): SubscribeCommand {
  // A static member should outlive its process, and so its stream.
  const sessionTimeoutMs = request.groupInstanceId === '' ? null : limits.sessionTimeoutMsDefault;
  return {
    ...enterCommand(call, request),
    maxInFlightRecords: numberOr(request.maxInFlightRecords, limits.maxInFlightRecordsDefault),
    maxInFlightBytes: numberOr(request.maxInFlightBytes, limits.maxInFlightBytesDefault),
    sessionTimeoutMs: msOr(request.sessionTimeout, sessionTimeoutMs),
    rebalanceTimeoutMs: msOr(request.rebalanceTimeout, limits.rebalanceTimeoutMsDefault),
    assignor: assignorName(request),
    metadata: request.metadata,
    autoAck: request.autoAck,
    assignmentChanges: request.assignmentChanges,
  };
}

function pullCommand(call: Call, request: PullRequest): PullCommand {
  return {
    ...enterCommand(call, request),
    maxRecords: numberOr(request.maxRecords, limits.pullRecordsDefault),
    maxBytes: Math.min(numberOr(request.maxBytes, limits.pullBytesDefault), call.recordsBytesMax),
    ...(call.checkRecord !== undefined && { checkRecord: call.checkRecord }),
    waitMs: msOr(request.wait, 0),
    sessionTimeoutMs: msOr(request.sessionTimeout, limits.sessionTimeoutMsDefault),
    autoAck: request.autoAck,
  };
}

function pullResponse(pulled: PullOutcome) {
  return create(PullResponseSchema, {
    memberId: pulled.memberId,
    generation: BigInt(pulled.generation),
    ...(pulled.leaseDeadlineAtMs !== null && { leaseDeadline: timestamp(pulled.leaseDeadlineAtMs) }),
    blockedOn: blockedOn(pulled.blockedOn),
    gaps: pulled.gaps.map(gapInit),
  });
}

function ackResult(outcome: AckOutcome): AckResult {
  const { topic, partition, lane, committedOffset } = outcome;
  return create(AckResultSchema, {
    topic,
    partition,
    lane,
    status: AckStatus[outcome.status],
    ...(committedOffset !== null && { committedOffset: BigInt(committedOffset) }),
  });
}

function heartbeatCommand(request: HeartbeatRequest): HeartbeatCommand {
  return {
    group: request.group,
    memberId: request.memberId as MemberId,
    generation: request.generation === undefined ? null : Number(request.generation),
    revoked: request.revoked.map(({ topic, partition }) => ({ topic, partition: given(partition) })),
  };
}
