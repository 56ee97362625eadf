import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  AssignmentTaskSchema,
  DeleteGroupResponseSchema,
  JoinGroupResponseSchema,
  LeaveGroupResponseSchema,
  SyncGroupResponseSchema,
  type GroupService,
  type JoinGroupRequest,
  type SyncGroupRequest,
} from '../../../gen/millrace/v1/group_pb.js';
import type { AssignmentTask, JoinGroupCommand, SyncGroupCommand } from '../../broker/commands.ts';
import type { MemberId } from '../../coordinator/group.ts';
import { limits } from '../../limits/limits.ts';
import { given, msOr } from '../validation/defaults.ts';
import type { Call, HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { assignorName, enterCommand, withoutRepeats } from '../translation/commands.ts';
import { groupViewHandlers } from '../translation/group-views.ts';
import { offsetHandlers } from './offsets.ts';
import { topicPartitions } from '../translation/responses.ts';

export function groupService(context: HandlerContext): UnaryHandlers<typeof GroupService> {
  const { services, validation } = context;
  return {
    ...offsetHandlers(context),
    ...groupViewHandlers(context),

    async joinGroup(call, request) {
      validation.joinGroup(request);
      const joined = await services().group.joinGroup(call.caller, joinGroupCommand(call, request));
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
      const synced = await services().group.syncGroup(syncGroupCommand(call, request), request.pageToken);
      return create(SyncGroupResponseSchema, {
        generation: BigInt(synced.generation),
        partitions: topicPartitions(synced.partitions),
        revoking: topicPartitions(synced.revoking),
        nextPageToken: synced.nextToken,
      });
    },

    async leaveGroup(_call, request) {
      validation.leaveGroup(request);
      await services().group.leaveGroup({ group: request.group, memberId: request.memberId as MemberId });
      return create(LeaveGroupResponseSchema);
    },

    async deleteGroup(_call, request) {
      validation.deleteGroup(request);
      await services().group.deleteGroup(request.group);
      return create(DeleteGroupResponseSchema);
    },
  };
}

function joinGroupCommand(call: Call, request: JoinGroupRequest): JoinGroupCommand {
  return {
    ...enterCommand(call, request),
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
    signal: call.reply().signal,
  };
}

function planOf({ generation, plan }: SyncGroupRequest): SyncGroupCommand['plan'] {
  if (plan === undefined) return null;
  const members = plan.members.map(({ memberId, partitions }) => ({
    memberId: memberId as MemberId,
    partitions: partitions.map(({ topic, partition }) => ({ topic, partition: given(partition) })),
  }));
  return { generation: Number(given(generation)), members };
}

function assignmentTask({ members, topics, current }: AssignmentTask) {
  return create(AssignmentTaskSchema, {
    members: members.map(({ memberId, clientId, instanceId, topics: read, metadata }) => {
      return { memberId, clientId, groupInstanceId: instanceId ?? '', topics: [...read], metadata };
    }),
    topics: [...topics],
    current: (current ?? []).map(({ memberId, partitions }) => ({ memberId, partitions: topicPartitions(partitions) })),
    currentOmitted: current === null,
  });
}
