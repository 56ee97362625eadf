import type { Duration } from '@bufbuild/protobuf/wkt';
import { Assignor } from '../../../gen/millrace/v1/broker_pb.js';
import type { StartPosition as StartPositionMessage } from '../../../gen/millrace/v1/record_pb.js';
import type { EnterCommand, StartPosition } from '../../broker/commands.ts';
import { firstPage, type PageRequest } from '../../broker/pages/paging.ts';
import type { AssignorName, MemberId } from '../../coordinator/group.ts';
import { limits } from '../../limits/limits.ts';
import { given, microseconds, msOr, numberOr, textOr, textOrNull } from '../validation/defaults.ts';
import type { Call } from '../edge/call.ts';

/** Parts of the commands of several services. The request has been validated. */

export function startPosition(start: StartPositionMessage | undefined): StartPosition {
  const position = start?.position;
  switch (position?.case) {
    case 'earliest':
      return { type: 'earliest' };
    case 'offset': {
      const { offset } = position.value;
      const partitions = position.value.partitions.map((entry) => ({
        partition: given(entry.partition),
        lane: entry.lane ?? null,
        offset: Number(given(entry.offset)),
      }));
      return { type: 'offsets', offset: offset === undefined ? null : Number(offset), partitions };
    }
    case 'timestamp':
      return { type: 'time', timeUs: microseconds(position.value) };
    default:
      return { type: 'latest' };
  }
}

const assignorNames: Readonly<Record<Assignor, AssignorName>> = {
  [Assignor.UNSPECIFIED]: 'sticky',
  [Assignor.RANGE]: 'range',
  [Assignor.ROUND_ROBIN]: 'round_robin',
  [Assignor.STICKY]: 'sticky',
  [Assignor.COOPERATIVE_STICKY]: 'cooperative_sticky',
};

/** Validation has ensured that not both are set. */
export function assignorName(request: { readonly assignor: Assignor; readonly assignorName: string }): AssignorName {
  return textOr(request.assignorName, assignorNames[request.assignor]);
}

/** The common fields of every request that creates or resumes a member. */
export function enterCommand(
  call: Call,
  request: {
    readonly group: string;
    readonly topics: readonly string[];
    readonly start?: StartPositionMessage | undefined;
    readonly memberId: string;
    readonly clientId: string;
    readonly groupInstanceId: string;
    readonly maxPollInterval?: Duration | undefined;
    readonly lanes: boolean;
  },
): EnterCommand {
  return {
    group: request.group,
    topics: withoutRepeats(request.topics),
    start: startPosition(request.start),
    memberId: memberIdOrNull(request.memberId),
    clientId: textOr(request.clientId, 'member'),
    instanceId: textOrNull(request.groupInstanceId),
    maxPollIntervalMs: msOr(request.maxPollInterval, limits.maxPollIntervalMsDefault),
    reply: call.reply(),
    lanes: request.lanes,
  };
}

export function memberIdOrNull(memberId: string): MemberId | null {
  return memberId === '' ? null : (memberId as MemberId);
}

export function withoutRepeats(names: readonly string[]): readonly string[] {
  return [...new Set(names)];
}

interface PagedRequest {
  readonly pageSize: number;
  readonly pageToken: string;
}

export function pageRequest({ pageSize, pageToken }: PagedRequest): PageRequest {
  return { size: numberOr(pageSize, limits.pageSizeDefault), token: pageToken };
}

/** For calls whose answer had no pages once: clients from then get as much as a page may have. */
export function wholePageRequest({ pageSize, pageToken }: PagedRequest): PageRequest {
  return { size: numberOr(pageSize, firstPage.size), token: pageToken };
}
