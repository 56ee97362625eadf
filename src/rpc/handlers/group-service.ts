import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  AssignmentTaskSchema,
  GetGroupResponseSchema,
  GroupSchema,
  GroupState,
  JoinGroupResponseSchema,
  LeaveGroupResponseSchema,
  ListGroupsResponseSchema,
  ListMembersResponseSchema,
  ListRebalancesResponseSchema,
  MemberKind,
  MemberSchema,
  RebalanceReason,
  RebalanceSchema,
  SyncGroupResponseSchema,
  type Group,
  type GroupService,
  type JoinGroupRequest,
  type ListGroupsRequest,
  type Member,
  type Rebalance,
  type SyncGroupRequest,
} from '../../../gen/millrace/v1/group_pb.js';
import type {
  AssignmentTask,
  GroupFilter,
  GroupSummary,
  JoinGroupCommand,
  MemberDetails,
  StoredRebalance,
  SyncGroupCommand,
} from '../../broker/broker.ts';
import type { MemberId } from '../../coordinator/group.ts';
import { limits } from '../../limits/limits.ts';
import { msOr, textOrNull } from '../validation/defaults.ts';
import type { Call, HandlerContext, UnaryHandlers } from './call.ts';
import { assignorName, enterCommand, pageRequest, withoutRepeats } from './commands.ts';
import { assignor, blockedOn, partitionStatuses, timestamp, topicPartitions } from './responses.ts';

export function groupService({ broker, validation }: HandlerContext): UnaryHandlers<typeof GroupService> {
  return {
    async joinGroup(call, request) {
      validation.joinGroup(request);
      const joined = await broker().joinGroup(call.caller, joinGroupCommand(request));
      return create(JoinGroupResponseSchema, {
        memberId: joined.memberId,
        generation: BigInt(joined.generation),
        heartbeatInterval: durationFromMs(joined.heartbeatIntervalMs),
        sessionTimeout: durationFromMs(joined.sessionTimeoutMs),
        maxPollInterval: durationFromMs(joined.maxPollIntervalMs),
        leaderId: joined.leaderId ?? '',
        assignorName: joined.assignor,
        ...(joined.task !== null && { assignmentTask: assignmentTask(joined.task) }),
      });
    },

    async syncGroup(call, request) {
      validation.syncGroup(request);
      const synced = await broker().syncGroup(call.caller, syncGroupCommand(call, request));
      return create(SyncGroupResponseSchema, {
        generation: BigInt(synced.generation),
        partitions: topicPartitions(synced.partitions),
        revoking: topicPartitions(synced.revoking),
      });
    },

    async leaveGroup(call, request) {
      validation.leaveGroup(request);
      await broker().leaveGroup(call.caller, { group: request.group, memberId: request.memberId as MemberId });
      return create(LeaveGroupResponseSchema);
    },

    async getGroup(call, request) {
      validation.getGroup(request);
      const { group, members, partitions } = await broker().getGroup(call.caller, request.group);
      return create(GetGroupResponseSchema, {
        group: groupMessage(group),
        members: members.map(memberMessage),
        partitions: partitionStatuses(partitions),
      });
    },

    async listGroups(call, request) {
      validation.listGroups(request);
      const page = await broker().listGroups(call.caller, groupFilter(request), pageRequest(request));
      return create(ListGroupsResponseSchema, { groups: page.items.map(groupMessage), nextPageToken: page.nextToken });
    },

    async listMembers(call, request) {
      validation.listMembers(request);
      const page = await broker().listMembers(call.caller, request.group, pageRequest(request));
      return create(ListMembersResponseSchema, {
        members: page.items.map(memberMessage),
        nextPageToken: page.nextToken,
        generation: BigInt(page.generation),
      });
    },

    async listRebalances(call, request) {
      validation.listRebalances(request);
      const rebalances = await broker().listRebalances(call.caller, request.group);
      return create(ListRebalancesResponseSchema, { rebalances: rebalances.map(rebalanceMessage) });
    },
  };
}

function joinGroupCommand(request: JoinGroupRequest): JoinGroupCommand {
  return {
    ...enterCommand(request),
    sessionTimeoutMs: msOr(request.sessionTimeout, limits.sessionTimeoutMsDefault),
    rebalanceTimeoutMs: msOr(request.rebalanceTimeout, limits.rebalanceTimeoutMsDefault),
    assignor: assignorName(request),
    clientAssignors: withoutRepeats(request.clientAssignors),
    metadata: request.metadata,
  };
}

function syncGroupCommand(call: Call, request: SyncGroupRequest): SyncGroupCommand {
  return {
    group: request.group,
    memberId: request.memberId as MemberId,
    knownGeneration: request.knownGeneration === undefined ? null : Number(request.knownGeneration),
    plan: planOf(request),
    waitMs: msOr(request.wait, limits.syncWaitMsDefault),
    signal: call.signal(),
  };
}

function planOf({ generation, plan }: SyncGroupRequest): SyncGroupCommand['plan'] {
  if (plan === undefined) return null;
  const members = plan.members.map(({ memberId, partitions }) => ({
    memberId: memberId as MemberId,
    partitions: partitions.map(({ topic, partition }) => ({ topic, partition: partition ?? 0 })),
  }));
  return { generation: Number(generation ?? 0n), members };
}

function assignmentTask({ members, topics, current }: AssignmentTask) {
  return create(AssignmentTaskSchema, {
    members: members.map(({ memberId, clientId, instanceId, topics: read, metadata }) => {
      return { memberId, clientId, groupInstanceId: instanceId ?? '', topics: [...read], metadata };
    }),
    topics: [...topics],
    current: current.map(({ memberId, partitions }) => ({ memberId, partitions: topicPartitions(partitions) })),
  });
}

const listedStates: Readonly<Record<Exclude<GroupState, GroupState.UNSPECIFIED>, GroupFilter['states'][number]>> = {
  [GroupState.EMPTY]: 'EMPTY',
  // Whoever still asks for it by its old name means what has taken its place.
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
