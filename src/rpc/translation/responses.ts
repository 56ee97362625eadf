import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs, type Duration, type Timestamp } from '@bufbuild/protobuf/wkt';
import {
  Assignor,
  BlockedOn,
  GapReason,
  PartitionStatusSchema,
  type GapSchema,
  type PartitionStatus,
} from '../../../gen/millrace/v1/broker_pb.js';
import { TopicPartitionSchema, type TopicPartition } from '../../../gen/millrace/v1/record_pb.js';
import type { AssignorName } from '../../coordinator/group.ts';
import type * as delivery from '../../delivery/ports/session.ts';

/** Parts of the responses of several services. Zeros with a meaning are always set. */

const blockedOns: Readonly<Record<delivery.BlockedOn, BlockedOn>> = {
  NO_ASSIGNMENT: BlockedOn.NO_ASSIGNMENT,
  CREDIT: BlockedOn.CREDIT,
  WINDOW: BlockedOn.WINDOW,
  RETRY: BlockedOn.RETRY,
  REVOKING: BlockedOn.REVOKING,
  SLOW_READER: BlockedOn.SLOW_READER,
  CAUGHT_UP: BlockedOn.CAUGHT_UP,
  READING: BlockedOn.READING,
  MAX_POLL_INTERVAL: BlockedOn.MAX_POLL_INTERVAL,
  DEAD_LETTER: BlockedOn.DEAD_LETTER,
  PAUSED: BlockedOn.PAUSED,
};

/**
 * A moment to the millisecond, because the fractions of clocks may not fit into `nanos` of a
 * Timestamp.
 */
export function timestamp(atMs: number): Timestamp {
  return timestampFromMs(Math.round(atMs));
}

/** The field of this name with a moment; without the field if there is none. */
export function timestampOrUnset<F extends string>(
  field: F,
  atMs: number | null,
): { readonly [name in F]?: Timestamp } {
  return atMs === null ? {} : ({ [field]: timestamp(atMs) } as { readonly [name in F]: Timestamp });
}

export function blockedOn(reason: delivery.BlockedOn | null): BlockedOn {
  return reason === null ? BlockedOn.UNSPECIFIED : blockedOns[reason];
}

const assignors: ReadonlyMap<AssignorName, Assignor> = new Map([
  ['range', Assignor.RANGE],
  ['round_robin', Assignor.ROUND_ROBIN],
  ['sticky', Assignor.STICKY],
  ['cooperative_sticky', Assignor.COOPERATIVE_STICKY],
]);

/** UNSPECIFIED for an assignor that is not built in. */
export function assignor(name: AssignorName): Assignor {
  return assignors.get(name) ?? Assignor.UNSPECIFIED;
}

export function topicPartitions(partitions: readonly delivery.TopicPartition[]): TopicPartition[] {
  return partitions.map(({ topic, partition }) => create(TopicPartitionSchema, { topic, partition }));
}

export function partitionStatuses(statuses: readonly delivery.PartitionStatus[]): PartitionStatus[] {
  return statuses.map((status) =>
    create(PartitionStatusSchema, {
      topic: status.topic,
      partition: status.partition,
      lane: status.lane,
      committedOffset: BigInt(status.committedOffset),
      highWatermark: BigInt(status.highWatermark),
      lag: BigInt(status.lag),
      blockedOn: blockedOn(status.blockedOn),
      memberId: status.memberId ?? '',
      inFlightRecords: status.inFlightRecords,
      ...(status.oldestUnackedAgeMs !== null && { oldestUnackedAge: ageDuration(status.oldestUnackedAgeMs) }),
    }),
  );
}

/** Zeros with a meaning are always set. */
export function gapInit({ topic, partition, lane, first, last, reason }: delivery.GapOfLog) {
  return {
    topic,
    partition,
    lane,
    first: BigInt(first),
    last: BigInt(last),
    reason: GapReason[reason],
  } satisfies MessageInitShape<typeof GapSchema>;
}

/** Never negative, although the database's clock may have been set back since. */
function ageDuration(ageMs: number): Duration {
  return durationFromMs(Math.max(0, Math.round(ageMs)));
}
