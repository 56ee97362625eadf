import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { SubscribeResponseSchema } from '../../../gen/millrace/v1/broker_pb.js';
import type { StreamEvent } from '../../delivery/session.ts';
import { FramedEvent } from '../../wire/batch-event.ts';
import { blockedOn, partitionStatuses, timestamp, topicPartitions } from './responses.ts';

type RareEvent = Exclude<StreamEvent, { readonly type: 'batch' }>;
type EventInit = MessageInitShape<typeof SubscribeResponseSchema>['event'];

/** An event as an encoded SubscribeResponse. Batches are the hot path: their bytes are shared and only framed. */
export function encodeEvent(event: StreamEvent): Buffer | FramedEvent {
  if (event.type === 'batch') return new FramedEvent(event.generation, event.field);
  const message = { generation: BigInt(event.generation), event: eventInit(event) };
  return Buffer.from(toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, message)));
}

function eventInit(event: RareEvent): NonNullable<EventInit> {
  switch (event.type) {
    case 'joined':
      return { case: 'joined', value: joined(event) };
    case 'assigned': {
      const partitions = topicPartitions(event.partitions);
      return { case: 'assigned', value: { generation: BigInt(event.generation), partitions } };
    }
    case 'revoking': {
      const partitions = topicPartitions(event.partitions);
      const deadline = timestamp(event.deadlineAtMs);
      return { case: 'revoking', value: { generation: BigInt(event.generation), partitions, deadline } };
    }
    case 'idle':
      return { case: 'idle', value: idle(event) };
    case 'draining': {
      const deadline = timestamp(event.deadlineAtMs);
      return { case: 'draining', value: { memberId: event.memberId, deadline } };
    }
  }
}

function joined(event: Extract<StreamEvent, { readonly type: 'joined' }>) {
  const { memberId, heartbeatIntervalMs, sessionTimeoutMs, maxPollIntervalMs } = event;
  return {
    memberId,
    maxPollInterval: durationFromMs(maxPollIntervalMs),
    generation: BigInt(event.generation),
    ...(heartbeatIntervalMs !== null && { heartbeatInterval: durationFromMs(heartbeatIntervalMs) }),
    ...(sessionTimeoutMs !== null && { sessionTimeout: durationFromMs(sessionTimeoutMs) }),
  };
}

function idle(event: Extract<StreamEvent, { readonly type: 'idle' }>) {
  return {
    blockedOn: blockedOn(event.blockedOn),
    lag: BigInt(event.lag),
    inFlightRecords: event.inFlightRecords,
    inFlightBytes: BigInt(event.inFlightBytes),
    partitions: partitionStatuses(event.partitions),
  };
}
