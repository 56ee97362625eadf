import {
  AssignmentPlanSchema,
  DeleteGroupRequestSchema,
  GetGroupRequestSchema,
  GroupState,
  GroupStateSchema,
  JoinGroupRequestSchema,
  LeaveGroupRequestSchema,
  ListGroupsRequestSchema,
  ListMembersRequestSchema,
  ListRebalancesRequestSchema,
  MemberAssignmentSchema,
  SyncGroupRequestSchema,
  type AssignmentPlan,
  type SyncGroupRequest,
} from '../../../gen/millrace/v1/group_pb.js';
import type { StartPosition, TopicPartition } from '../../../gen/millrace/v1/record_pb.js';
import { limits } from '../../limits/limits.ts';
import { assignor, maxPollInterval, metadata, oneAssignor, rebalanceTimeout, sessionTimeout } from './broker-rules.ts';
import * as field from './field-rules.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/** Rules for the calls of GroupService. */

export function joinGroupRule(ruled: RuledFields, start: Rule<StartPosition | undefined>) {
  const fields = {
    group: field.name,
    topics: field.list(1, limits.memberTopicsMax, field.name),
    start,
    clientId: field.optionalName,
    memberId: field.optionalMemberId,
    sessionTimeout,
    rebalanceTimeout,
    assignor,
    assignorName: field.optionalName,
    groupInstanceId: field.optionalName,
    maxPollInterval,
    clientAssignors: field.list(0, limits.clientAssignorsMax, field.name),
    metadata,
  };
  return message(ruled, JoinGroupRequestSchema, fields, oneAssignor);
}

export function syncGroupRule(ruled: RuledFields, topicPartition: Rule<TopicPartition>) {
  const assignment = message(ruled, MemberAssignmentSchema, {
    memberId: field.memberId,
    partitions: field.list(0, limits.planPartitionsMax, topicPartition),
  });
  const plan = message(
    ruled,
    AssignmentPlanSchema,
    { members: field.list(0, limits.planPartitionsMax, assignment) },
    partitionsInAll,
  );
  const fields = {
    group: field.name,
    memberId: field.memberId,
    knownGeneration: field.notNegative,
    wait: field.duration(0, limits.syncWaitMsMax),
    generation: field.notNegative,
    plan,
    pageToken: field.pageToken,
  };
  return message(ruled, SyncGroupRequestSchema, fields, withPlan);
}

const partitionsInAll: Rule<AssignmentPlan> = ({ members }, at, report) => {
  const count = members.reduce((sum, { partitions }) => sum + partitions.length, 0);
  if (count > limits.planPartitionsMax) report(at, `names ${count} partitions, more than ${limits.planPartitionsMax}`);
};

const withPlan: Rule<SyncGroupRequest> = ({ plan, generation, pageToken }, _at, report) => {
  if (plan === undefined) return;
  if (generation === undefined) report('generation', 'is required with a plan');
  if (pageToken !== '') report('page_token', 'must be empty with a plan');
};

export function leaveGroupRule(ruled: RuledFields) {
  return message(ruled, LeaveGroupRequestSchema, { group: field.name, memberId: field.memberId });
}

export function getGroupRule(ruled: RuledFields) {
  return message(ruled, GetGroupRequestSchema, {
    group: field.name,
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
  });
}

export function deleteGroupRule(ruled: RuledFields) {
  return message(ruled, DeleteGroupRequestSchema, { group: field.name });
}

export function listGroupsRule(ruled: RuledFields) {
  return message(ruled, ListGroupsRequestSchema, {
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
    states: field.list(0, limits.listStatesMax, listedState),
    topic: field.optionalName,
  });
}

const knownState = field.oneOf(GroupStateSchema);

const listedState: Rule<GroupState> = (state, at, report) => {
  if (state === GroupState.UNSPECIFIED) report(at, 'must be a state');
  else knownState(state, at, report);
};

export function listMembersRule(ruled: RuledFields) {
  return message(ruled, ListMembersRequestSchema, {
    group: field.name,
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
  });
}

export function listRebalancesRule(ruled: RuledFields) {
  return message(ruled, ListRebalancesRequestSchema, { group: field.name });
}
