import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  GetGroupResponseSchema,
  GroupSchema,
  GroupState,
  ListGroupsResponseSchema,
  ListMembersResponseSchema,
  ListRebalancesResponseSchema,
  MemberKind,
  MemberSchema,
  RebalanceReason,
  RebalanceSchema,
  type Group,
  type GroupService,
  type ListGroupsRequest,
  type Member,
  type Rebalance,
} from '../../../gen/millrace/v1/group_pb.js';
import type { GroupFilter, GroupSummary, MemberDetails, StoredRebalance } from '../../broker/commands.ts';
import { textOrNull } from '../validation/defaults.ts';
import type { HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { pageRequest, wholePageRequest } from './commands.ts';
import { assignor, blockedOn, partitionStatuses, timestamp, topicPartitions } from './responses.ts';

type Views = 'getGroup' | 'listGroups' | 'listMembers' | 'listRebalances';

/** The calls of GroupService that show groups. */
export function groupViewHandlers({
  services,
  validation,
}: HandlerContext): Pick<UnaryHandlers<typeof GroupService>, Views> {
  return {
    async getGroup(_call, request) {
      validation.getGroup(request);
      const shown = await services().group.getGroup(request.group, wholePageRequest(request));
      return create(GetGroupResponseSchema, {
        group: groupMessage(shown.group),
        members: shown.members.map(memberMessage),
        partitions: partitionStatuses(shown.partitions),
        nextPageToken: shown.nextToken,
      });
    },

    async listGroups(_call, request) {
      validation.listGroups(request);
      const page = await services().group.listGroups(groupFilter(request), pageRequest(request));
      return create(ListGroupsResponseSchema, { groups: page.items.map(groupMessage), nextPageToken: page.nextToken });
    },

    async listMembers(_call, request) {
      validation.listMembers(request);
      const page = await services().group.listMembers(request.group, pageRequest(request));
      return create(ListMembersResponseSchema, {
        members: page.items.map(memberMessage),
        nextPageToken: page.nextToken,
        generation: BigInt(page.generation),
      });
    },

    async listRebalances(_call, request) {
      validation.listRebalances(request);
      const rebalances = await services().group.listRebalances(request.group);
      return create(ListRebalancesResponseSchema, { rebalances: rebalances.map(rebalanceMessage) });
    },
  };
}

const listedStates: Readonly<Record<Exclude<GroupState, GroupState.UNSPECIFIED>, GroupFilter['states'][number]>> = {
  [GroupState.EMPTY]: 'EMPTY',
  // A client that uses the old name means the state that has replaced it.
  [GroupState.RECONCILING]: 'COMPLETING_REBALANCE',
  [GroupState.STABLE]: 'STABLE',
  [GroupState.PREPARING_REBALANCE]: 'PREPARING_REBALANCE',
  [GroupState.COMPLETING_REBALANCE]: 'COMPLETING_REBALANCE',
  [GroupState.DEAD]: 'DEAD',
};

function groupFilter({ states, topic }: ListGroupsRequest): GroupFilter {
  const known = states.flatMap((state) => (state === GroupState.UNSPECIFIED ? [] : listedStates[state]));
  return { states: known, topic: textOrNull(topic) };
}

function groupMessage(group: GroupSummary): Group {
  return create(GroupSchema, {
    name: group.name,
    state: GroupState[group.state],
    generation: BigInt(group.generation),
    assignor: assignor(group.assignor),
    memberCount: group.memberCount,
    topics: [...group.topics],
    assignorName: group.assignor,
    leaderId: group.leaderId ?? '',
    lag: BigInt(group.lag),
    inFlightRecords: BigInt(group.inFlightRecords),
    topicCount: group.topicCount,
  });
}

function memberMessage(member: MemberDetails): Member {
  return create(MemberSchema, {
    memberId: member.memberId,
    clientId: member.clientId,
    host: member.host,
    topics: [...member.topics],
    partitions: topicPartitions(member.partitions),
    revoking: topicPartitions(member.revoking),
    kind: MemberKind[member.kind],
    groupInstanceId: member.instanceId ?? '',
    rebalanceTimeout: durationFromMs(member.rebalanceTimeoutMs),
    maxPollInterval: durationFromMs(member.maxPollIntervalMs),
    stalled: member.stalled,
    ...(member.sessionTimeoutMs !== null && { sessionTimeout: durationFromMs(member.sessionTimeoutMs) }),
    inFlightRecords: member.inFlightRecords,
    blockedOn: blockedOn(member.blockedOn),
    partitionCount: member.partitionCount,
    revokingCount: member.revokingCount,
  });
}

function rebalanceMessage(rebalance: StoredRebalance): Rebalance {
  const { generation, endedAtMs, durationMs, causes, memberCount, assignedCount, revokedCount, completed } = rebalance;
  return create(RebalanceSchema, {
    generation: BigInt(generation),
    endTime: timestamp(endedAtMs),
    duration: durationFromMs(Math.round(durationMs)),
    causes: causes.map(({ reason, memberId, count }) => {
      return { reason: RebalanceReason[reason], memberId: memberId ?? '', count };
    }),
    memberCount,
    assignedCount,
    revokedCount,
    completed,
  });
}
