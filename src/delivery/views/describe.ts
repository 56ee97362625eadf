import type { GroupState, MemberId, MemberRow } from '../../coordinator/group.ts';
import type { SubscriptionDetails, SubscriptionWithCursors } from '../ports/subscriptions.ts';
import type { GroupDetails, GroupFilter, GroupMembers, GroupSummary, MemberDetails } from '../ports/views.ts';
import type { GroupModel } from '../groups/model.ts';
import type { GroupContext } from '../groups/context.ts';
import type { BlockedOn, PartitionStatus } from '../ports/session.ts';
import type { ActiveSubscription } from '../groups/subscription.ts';

/** Groups and subscriptions as answers and metrics show them. */

export interface DeliveryCounts {
  readonly groups: number;
  readonly groupsByState: Readonly<Record<GroupState, number>>;
  readonly members: number;
  readonly inFlightRecords: number;
  readonly lag: number;
  /**
   * This number and all below count from the start of this owner. Repeated deliveries count again.
   */
  readonly deliveredRecords: number;
  readonly deliveredBytes: number;
  readonly rebalances: number;
  readonly rebalanceSeconds: number;
  readonly heartbeats: number;
  readonly sessionTimeouts: number;
  readonly fencedCalls: number;
  readonly commits: number;
  /** Bytes of the batches that were read from the database and are not delivered yet. */
  readonly feedBytes: number;
}

export function isShown(group: GroupModel, { states, topic }: GroupFilter): boolean {
  if (states.length > 0 && !states.includes(group.phase)) return false;
  return topic === null || group.subscriptionTo(topic) !== undefined;
}

export function summaryOf(group: GroupModel): GroupSummary {
  return {
    name: group.name,
    state: group.phase,
    generation: group.decidedGeneration,
    assignor: group.assignor,
    leaderId: group.leaderId,
    memberCount: group.memberCount,
    topics: group.sortedSubscriptions().map(({ topicName }) => topicName),
    ...extentOf(group),
  };
}

export function detailsOf(group: GroupModel): GroupDetails {
  return {
    group: summaryOf(group),
    members: membersOf(group).members,
    partitions: group.sortedSubscriptions().flatMap(statusOf),
  };
}

export function membersOf(group: GroupModel): GroupMembers {
  const members = group.rows().map((row) => memberDetails(group, row));
  return {
    generation: group.decidedGeneration,
    members: members.sort((a, b) => (a.memberId < b.memberId ? -1 : 1)),
  };
}

/**
 * `unloaded`: the number of groups that are not in memory yet. While there are some, the counts
 * that depend on all groups are not known: NaN.
 */
export function countsOf(
  groups: readonly GroupModel[],
  unloaded: number,
  { delivered, counts, memory }: Pick<GroupContext, 'delivered' | 'counts' | 'memory'>,
): DeliveryCounts {
  const none = unloaded > 0 ? NaN : 0;
  const groupsByState = {
    EMPTY: none,
    PREPARING_REBALANCE: none,
    COMPLETING_REBALANCE: none,
    STABLE: none,
    DEAD: none,
  };
  const sums = { members: none, inFlightRecords: none, lag: none };
  for (const group of groups) {
    const { lag, inFlightRecords } = extentOf(group);
    groupsByState[group.phase]++;
    sums.members += group.members.size;
    sums.inFlightRecords += inFlightRecords;
    sums.lag += lag;
  }
  const { rebalanceMs, ...counted } = counts;
  return {
    groups: groups.length + unloaded,
    groupsByState,
    ...sums,
    deliveredRecords: delivered.records,
    deliveredBytes: delivered.bytes,
    ...counted,
    rebalanceSeconds: rebalanceMs / 1_000,
    feedBytes: memory.bytes,
  };
}

function extentOf(group: GroupModel): { lag: number; inFlightRecords: number } {
  const extent = { lag: 0, inFlightRecords: 0 };
  for (const { logs } of group.subscriptions.values()) {
    for (const { cursor, log } of logs) {
      extent.lag += cursor.lag(log.endOffset);
      extent.inFlightRecords += cursor.inFlightRecords;
    }
  }
  return extent;
}

function memberDetails(group: GroupModel, row: MemberRow): MemberDetails {
  const member = group.members.get(row.memberId);
  return {
    memberId: row.memberId,
    clientId: row.clientId,
    host: row.host,
    instanceId: row.instanceId,
    kind: row.kind,
    topics: row.topicIds.flatMap((id) => group.subscriptions.get(id)?.topicName ?? []).sort(),
    partitions: member?.partitions() ?? [],
    revoking: member?.revoking() ?? [],
    sessionTimeoutMs: row.sessionTimeoutMs,
    rebalanceTimeoutMs: row.rebalanceTimeoutMs,
    maxPollIntervalMs: row.maxPollIntervalMs,
    stalled: group.isStalled(row.memberId),
    inFlightRecords: member?.seats.reduce((sum, { feed }) => sum + feed.cursor.inFlightRecords, 0) ?? 0,
    blockedOn: readerBlockedOn(group, row.memberId),
  };
}

function readerBlockedOn(group: GroupModel, memberId: MemberId): BlockedOn | null {
  for (const reader of group.members.get(memberId)?.readers ?? [])
    if (reader.blockedOn !== null) return reader.blockedOn;
  return null;
}

export function subscriptionDetails(
  group: GroupModel,
  subscription: ActiveSubscription,
  state: SubscriptionDetails['state'] = 'ACTIVE',
): SubscriptionDetails {
  const { row, topicName } = subscription;
  return { id: row.id, group: group.name, topic: topicName, state, createdAtMs: row.createdAtMs };
}

export function subscriptionWithCursors(group: GroupModel, subscription: ActiveSubscription): SubscriptionWithCursors {
  return { subscription: subscriptionDetails(group, subscription), partitions: statusOf(subscription) };
}

function statusOf(subscription: ActiveSubscription): PartitionStatus[] {
  return subscription.logs.map((log) => log.status());
}
