import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { SubscriptionState } from '../../../gen/millrace/v1/subscription_pb.js';
import {
  DropReason,
  GetTopicStorageResponseSchema,
  KeptReason,
  type BlockingSessionSchema,
  type GetTopicStorageResponse,
  type KeptBySchema,
  type SegmentDropSchema,
  type StoredSegmentSchema,
} from '../../../gen/millrace/v1/topic_pb.js';
import type { BlockingSession, KeptBy, StoredDrop, StoredSegment, TopicStorage } from '../../broker/commands.ts';
import { limits } from '../../limits/limits.ts';
import { timestamp, timestampOrUnset } from '../translation/responses.ts';

/** What a topic stores, as an answer shows it. Zeros with a meaning are always set. */
export function topicStorageResponse(shown: TopicStorage): GetTopicStorageResponse {
  return create(GetTopicStorageResponseSchema, {
    storedBytes: BigInt(shown.storedBytes),
    segments: shown.segments.items.map(segmentInit),
    keptBy: shown.keptBy.map(keptByInit),
    drops: shown.drops.map(dropInit),
    nextPageToken: shown.segments.nextToken,
  });
}

function segmentInit(one: StoredSegment): MessageInitShape<typeof StoredSegmentSchema> {
  return {
    segment: BigInt(one.segment),
    bytes: BigInt(one.bytes),
    firstOffsets: one.firstOffsets.map(({ partition, lane, offset }) => ({ partition, lane, offset: BigInt(offset) })),
    ...timestampOrUnset('lastAppendTime', one.lastAppendMs),
    ...timestampOrUnset('completeTime', one.completedAtMs),
    current: one.isCurrent,
  };
}

function keptByInit({ reason, subscription, bytes, segments, untilMs, session }: KeptBy) {
  return {
    reason: KeptReason[reason],
    ...(subscription !== null && { group: subscription.group, state: SubscriptionState[subscription.state] }),
    bytes: BigInt(bytes),
    segments,
    ...timestampOrUnset('untilTime', untilMs),
    ...(session !== null && { session: sessionInit(session) }),
  } satisfies MessageInitShape<typeof KeptBySchema>;
}

function sessionInit({ pid, transactionAgeMs, applicationName, state }: BlockingSession) {
  return {
    pid,
    applicationName,
    state: state ?? '',
    // The clocks of two servers may differ by a little.
    ...(transactionAgeMs !== null && { transactionAge: durationFromMs(Math.max(0, Math.round(transactionAgeMs))) }),
  } satisfies MessageInitShape<typeof BlockingSessionSchema>;
}

function dropInit({ segment, reason, bytes, plannedAtMs, doneAtMs, ranges }: StoredDrop) {
  return {
    segment: BigInt(segment),
    reason: DropReason[reason],
    bytes: BigInt(bytes),
    time: timestamp(plannedAtMs),
    ...timestampOrUnset('doneTime', doneAtMs),
    ranges: ranges.slice(0, limits.droppedRangesMax).map(({ partition, lane, first, last }) => {
      return { partition, lane, first: BigInt(first), last: BigInt(last) };
    }),
  } satisfies MessageInitShape<typeof SegmentDropSchema>;
}
