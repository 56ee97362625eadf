import { create } from '@bufbuild/protobuf';
import {
  FetchedOffsetSchema,
  FetchOffsetsResponseSchema,
  OffsetStatus,
  ResetOffsetSchema,
  ResetOffsetsResponseSchema,
  type CommitOffsetsRequest,
  type FetchOffsetsRequest,
  type ResetOffsetsRequest,
} from '../../../gen/millrace/v1/offset_pb.js';
import type { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import type { TopicPartition } from '../../../gen/millrace/v1/record_pb.js';
import type {
  CommitOffsetsCommand,
  FetchedOffset,
  FetchOffsetsCommand,
  NamedLog,
  ResetOffset,
  ResetOffsetsCommand,
  ResetTo,
} from '../../broker/commands.ts';
import { limits } from '../../limits/limits.ts';
import { encodeCommittedOffsets } from '../../wire/encode-committed-offsets.ts';
import { scanCommitOffsets } from '../../wire/scan-commit-offsets.ts';
import { given, microseconds, numberOr } from '../validation/defaults.ts';
import type { BytesHandler, HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { memberIdOrNull } from '../translation/commands.ts';

/** The calls of GroupService on offsets. */
export function offsetHandlers({
  services,
  validation,
}: HandlerContext): Pick<UnaryHandlers<typeof GroupService>, 'commitOffsets' | 'fetchOffsets' | 'resetOffsets'> {
  return {
    async commitOffsets(_call, request) {
      validation.commitOffsets(request);
      return encodeCommittedOffsets(await services().group.commitOffsets(commitOffsetsCommand(request)));
    },

    async fetchOffsets(_call, request) {
      validation.fetchOffsets(request);
      const page = await services().group.fetchOffsets(fetchOffsetsCommand(request));
      return create(FetchOffsetsResponseSchema, {
        offsets: page.items.map(fetchedOffset),
        nextPageToken: page.nextToken,
      });
    },

    async resetOffsets(_call, request) {
      validation.resetOffsets(request);
      const reset = await services().group.resetOffsets(resetOffsetsCommand(request));
      return create(ResetOffsetsResponseSchema, { offsets: reset.map(resetOffset) });
    },
  };
}

/** CommitOffsets from the request's bytes, if they are in the form that clients send. */
export function commitOffsetsOfBytes({ services }: HandlerContext): BytesHandler {
  return (_call, request) => {
    const scanned = scanCommitOffsets(request);
    if (scanned === null) return null;
    const { group, memberId, generation, offsets } = scanned;
    const command = { group, member: committing(memberId, generation), offsets };
    return services().group.commitOffsets(command).then(encodeCommittedOffsets);
  };
}

function commitOffsetsCommand({ group, memberId, generation, offsets }: CommitOffsetsRequest): CommitOffsetsCommand {
  return {
    group,
    member: committing(memberId, generation === undefined ? null : Number(generation)),
    offsets: offsets.map(({ topic, partition, lane, offset, metadata }) => {
      return { topic, partition: given(partition), lane: lane ?? null, offset: Number(given(offset)), metadata };
    }),
  };
}

function committing(memberId: string, generation: number | null): CommitOffsetsCommand['member'] {
  const id = memberIdOrNull(memberId);
  return id === null ? null : { memberId: id, generation: given(generation ?? undefined) };
}

function fetchOffsetsCommand(request: FetchOffsetsRequest): FetchOffsetsCommand {
  return {
    group: request.group,
    partitions: named(request.partitions),
    page: { size: numberOr(request.pageSize, limits.fetchOffsetsMax), token: request.pageToken },
  };
}

function fetchedOffset({ topic, partition, lane, status, committed }: FetchedOffset) {
  if (committed === null) {
    return create(FetchedOffsetSchema, { topic, partition, lane, status: OffsetStatus[status] });
  }
  return create(FetchedOffsetSchema, {
    topic,
    partition,
    lane,
    committedOffset: BigInt(committed.offset),
    highWatermark: BigInt(committed.highWatermark),
    lag: BigInt(committed.lag),
    metadata: committed.metadata,
    status: OffsetStatus[status],
  });
}

function resetOffsetsCommand(request: ResetOffsetsRequest): ResetOffsetsCommand {
  const { group, topics, partitions, to, dryRun, force } = request;
  return { group, topics, partitions: named(partitions), to: resetTo(to), dryRun, force };
}

function resetTo(to: ResetOffsetsRequest['to']): ResetTo {
  switch (to.case) {
    case 'earliest':
      return { type: 'earliest' };
    case 'offset':
      return { type: 'offset', offset: Number(to.value) };
    case 'timestamp':
      return { type: 'time', timeUs: microseconds(to.value) };
    case 'shiftBy':
      return { type: 'shift', by: Number(to.value) };
    default:
      return { type: 'latest' };
  }
}

function resetOffset({ topic, partition, lane, previousOffset, offset, lag }: ResetOffset) {
  return create(ResetOffsetSchema, {
    topic,
    partition,
    lane,
    previousOffset: BigInt(previousOffset),
    offset: BigInt(offset),
    lag: BigInt(lag),
  });
}

function named(partitions: readonly TopicPartition[]): NamedLog[] {
  return partitions.map(({ topic, partition, lane }) => ({ topic, partition: given(partition), lane: lane ?? null }));
}
