import type { MemberId, MemberRow } from '../coordinator/group.ts';
import type {
  GroupDetails,
  GroupSummary,
  MemberDetails,
  SubscriptionDetails,
  SubscriptionWithCursors,
} from './calls.ts';
import type { ConsumerGroup } from './consumer-group.ts';
import type { BlockedOn, PartitionStatus } from './session.ts';
import type { ActiveSubscription } from './subscription.ts';

/** What is shown of groups and subscriptions. */

export function summaryOf(group: ConsumerGroup): GroupSummary {
  const { machine } = group;
  return {
    name: group.name,
    state: machine.state(),
    generation: machine.generation,
    assignor: machine.assignor,
    leaderId: machine.leader,
    memberCount: machine.memberCount,
    topics: Array.from(group.subscriptions.values(), (one) => one.topicName).sort(),
  };
}

export function detailsOf(group: ConsumerGroup): GroupDetails {
  const members = group.machine.members().map((row) => memberDetails(group, row));
  return {
    group: summaryOf(group),
    members: members.sort((a, b) => (a.memberId < b.memberId ? -1 : 1)),
    partitions: Array.from(group.subscriptions.values())
      .sort((a, b) => (a.topicName < b.topicName ? -1 : 1))
      .flatMap(statusOf),
  };
}

function memberDetails(group: ConsumerGroup, row: MemberRow): MemberDetails {
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
    stalled: group.machine.isStalled(row.memberId),
    inFlightRecords: member?.logs.reduce((sum, log) => sum + log.cursor.inFlightRecords, 0) ?? 0,
    blockedOn: readerBlockedOn(group, row.memberId),
  };
}

function readerBlockedOn(group: ConsumerGroup, memberId: MemberId): BlockedOn | null {
  for (const reader of group.members.get(memberId)?.readers ?? [])
    if (reader.blockedOn !== null) return reader.blockedOn;
  return null;
}

export function subscriptionDetails(
  group: ConsumerGroup,
  subscription: ActiveSubscription,
  state: SubscriptionDetails['state'] = 'ACTIVE',
): SubscriptionDetails {
  const { row, topicName } = subscription;
  return { id: row.id, group: group.name, topic: topicName, state, createdAtMs: row.createdAtMs };
}

export function subscriptionWithCursors(
  group: ConsumerGroup,
  subscription: ActiveSubscription,
): SubscriptionWithCursors {
  return { subscription: subscriptionDetails(group, subscription), partitions: statusOf(subscription) };
}

function statusOf(subscription: ActiveSubscription): PartitionStatus[] {
  return subscription.logs.map((log) => log.status());
}

export interface DeliveryCounts {
  readonly groups: number;
  readonly members: number;
  readonly inFlightRecords: number;
  readonly lag: number;
  /** Since this broker owns the database; repeated deliveries count again. */
  readonly deliveredRecords: number;
  readonly deliveredBytes: number;
}

export function countsOf(
  groups: readonly ConsumerGroup[],
  delivered: { readonly records: number; readonly bytes: number },
): DeliveryCounts {
  const counts = {
    groups: groups.length,
    members: 0,
    inFlightRecords: 0,
    lag: 0,
    deliveredRecords: delivered.records,
    deliveredBytes: delivered.bytes,
  };
  for (const group of groups) {
    counts.members += group.members.size;
    for (const { logs } of group.subscriptions.values()) {
      for (const { cursor, log } of logs) {
        counts.inFlightRecords += cursor.inFlightRecords;
        counts.lag += cursor.lag(log.endOffset);
      }
    }
  }
  return counts;
}
