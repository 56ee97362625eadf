import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { AssignedSchema, RevokingSchema, SubscribeResponseSchema } from '../../../gen/millrace/v1/broker_pb.js';
import type { StreamEvent } from '../../delivery/ports/session.ts';
import { FramedEvent } from '../../wire/batch-event.ts';
import { encodeNested, encodePartitions } from '../../wire/partition-list.ts';
import { blockedOn, gapInit, partitionStatuses, timestamp } from './responses.ts';

type ListEvent = Extract<StreamEvent, { readonly type: 'assigned' | 'revoking' }>;
type RareEvent = Exclude<StreamEvent, ListEvent | { readonly type: 'batch' }>;
type EventInit = MessageInitShape<typeof SubscribeResponseSchema>['event'];

/**
 * An event as an encoded SubscribeResponse. Batches are the hot path: they are shared and only
 * framed.
 */
export function encodeEvent(event: StreamEvent): Buffer | FramedEvent {
  if (event.type === 'batch') return new FramedEvent(event.generation, event.field);
  if (event.type === 'assigned' || event.type === 'revoking') return listEvent(event);
  const message = { generation: BigInt(event.generation), event: eventInit(event) };
  return Buffer.from(toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, message)));
}

/** An event with a possibly long list of partitions, joined from its encoded parts. */
function listEvent(event: ListEvent): Buffer {
  const generation = BigInt(event.generation);
  const outer = toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { generation }));
  if (event.type === 'assigned') {
    const { partitions, removed = [] } = event;
    const changes = event.removed !== undefined;
    const inner = toBinary(AssignedSchema, create(AssignedSchema, { generation, changes }));
    const { field } = AssignedSchema;
    const lists = [
      encodePartitions(field.partitions.number, partitions),
      encodePartitions(field.removed.number, removed),
    ];
    return Buffer.concat([outer, encodeNested(SubscribeResponseSchema.field.assigned.number, [inner, ...lists])]);
  }
  const deadline = timestamp(event.deadlineAtMs);
  const inner = toBinary(RevokingSchema, create(RevokingSchema, { generation, deadline }));
  const list = encodePartitions(RevokingSchema.field.partitions.number, event.partitions);
  return Buffer.concat([outer, encodeNested(SubscribeResponseSchema.field.revoking.number, [inner, list])]);
}

function eventInit(event: RareEvent): NonNullable<EventInit> {
  switch (event.type) {
    case 'joined':
      return { case: 'joined', value: joined(event) };
    case 'gap':
      return { case: 'gap', value: gapInit(event) };
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
