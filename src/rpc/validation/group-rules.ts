import {
  DeleteGroupRequestSchema,
  GetGroupRequestSchema,
  JoinGroupRequestSchema,
  LeaveGroupRequestSchema,
  ListGroupsRequestSchema,
  SyncGroupRequestSchema,
} from '../../../gen/millrace/v1/group_pb.js';
import type { StartPosition } from '../../../gen/millrace/v1/record_pb.js';
import { limits } from '../../limits/limits.ts';
import { assignor, rebalanceTimeout, sessionTimeout } from './broker-rules.ts';
import * as field from './field-rules.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/** Rules for the calls of GroupService. */

export function joinGroupRule(ruled: RuledFields, start: Rule<StartPosition | undefined>) {
  return message(ruled, JoinGroupRequestSchema, {
    group: field.name,
    topics: field.list(1, limits.memberTopicsMax, field.name),
    start,
    clientId: field.optionalName,
    memberId: field.optionalMemberId,
    sessionTimeout,
    rebalanceTimeout,
    assignor,
  });
}

export function syncGroupRule(ruled: RuledFields) {
  return message(ruled, SyncGroupRequestSchema, {
    group: field.name,
    memberId: field.memberId,
    knownGeneration: field.notNegative,
    wait: field.duration(0, limits.syncWaitMsMax),
  });
}

export function leaveGroupRule(ruled: RuledFields) {
  return message(ruled, LeaveGroupRequestSchema, { group: field.name, memberId: field.memberId });
}

export function getGroupRule(ruled: RuledFields) {
  return message(ruled, GetGroupRequestSchema, { group: field.name });
}

export function deleteGroupRule(ruled: RuledFields) {
  return message(ruled, DeleteGroupRequestSchema, { group: field.name });
}

export function listGroupsRule(ruled: RuledFields) {
  return message(ruled, ListGroupsRequestSchema, {
    pageSize: field.count(limits.pageSizeMax),
    pageToken: field.pageToken,
  });
}
