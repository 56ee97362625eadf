import type { GroupState, MemberId, MemberRow } from '../../coordinator/group.ts';
import { present } from '../../errors/present.ts';
import type { SubscriptionState } from '../../subscription/life.ts';
import { limits } from '../../limits/limits.ts';
import type { GroupFilter, GroupSummary, GroupView, MemberDetails } from '../ports/views.ts';
import type { GroupModel } from '../groups/model.ts';
import type { ActiveSubscription } from '../subscriptions/subscription.ts';
import type { GroupContext } from '../groups/context.ts';
import type { BlockedOn, TopicPartition } from '../ports/session.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { TopicLogs } from '../groups/subscriptions.ts';

/** Groups as answers and metrics show them. */

export interface DeliveryCounts {
  readonly groups: number;
  readonly groupsByState: Readonly<Record<GroupState, number>>;
  readonly subscriptionsByState: Readonly<Record<SubscriptionState, number>>;
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
  /** How often the attempts of a cursor stayed uncounted, because there was no memory. */
  readonly uncountedAttempts: number;
  /** Records that groups were owed when retention dropped them. */
  readonly gapRecords: number;
  /** Bytes of the batches that were read from the database and are not delivered yet. */
  readonly feedBytes: number;
}

export function isShown(group: GroupModel, { states, topic }: GroupFilter): boolean {
  if (states.length > 0 && !states.includes(group.phase)) return false;
  return topic === null || group.subscriptionTo(topic) !== undefined;
}

export function summaryOf(group: GroupModel, topicsMax: number): GroupSummary {
  return {
    name: group.name,
    state: group.phase,
    generation: group.decidedGeneration,
    assignor: group.assignor,
    leaderId: group.leaderId,
    memberCount: group.memberCount,
    topics: Array.from(group.sortedSubscriptions().slice(0, topicsMax), ({ topicName }) => topicName),
    topicCount: group.subscriptions.size,
    ...extentOf(group),
  };
}

export function viewOf(group: GroupModel): GroupView {
  let held: ReadonlyMap<MemberId, Held> | null = null;
  return {
    generation: group.decidedGeneration,
    summary: () => summaryOf(group, limits.groupTopicsMax),
    memberIds: () =>
      group
        .rows()
        .map(({ memberId }) => memberId)
        .sort(),
    member(memberId) {
      held ??= heldByMembers(group);
      const row = present(group.row(memberId), 'a view is of one moment');
      return memberDetails(group, row, held.get(memberId) ?? new Held());
    },
    logs: () => group.sortedSubscriptions().flatMap(({ logs }) => logs),
  };
}

/** What a member holds. It may have 100,000 partitions, of which an answer shows the first. */
class Held {
  readonly partitions: TopicPartition[] = [];
  readonly revoking: TopicPartition[] = [];
  partitionCount = 0;
  revokingCount = 0;
  inFlightRecords = 0;

  add({ key, place, cursor }: Feed, isRevoking: boolean): void {
    this.inFlightRecords += cursor.inFlightRecords;
    // Lane 0 stands for a partition.
    if (key.lane !== 0) return;
    if (this.partitionCount++ < limits.listedPartitionsMax) this.partitions.push(place);
    if (isRevoking && this.revokingCount++ < limits.listedPartitionsMax) this.revoking.push(place);
  }
}

/** Goes over the logs of the group once, because they are in order, unlike those of a member. */
function heldByMembers(group: GroupModel): ReadonlyMap<MemberId, Held> {
  const held = new Map<MemberId, Held>();
  for (const { logs } of group.sortedSubscriptions()) {
    for (const log of logs) {
      if (log.seat === null) continue;
      const { id } = log.seat.member;
      let ofMember = held.get(id);
      if (ofMember === undefined) held.set(id, (ofMember = new Held()));
      ofMember.add(log, log.seat.revoking);
    }
  }
  return held;
}

/**
 * `unloaded`: the number of groups that are not in memory yet. While there are some, the counts
 * that depend on all groups are not known: NaN.
 */
function sumsOf(groups: readonly GroupModel[], unloaded: number, topics: AppendedLogs): Sums {
  const none = unloaded > 0 ? NaN : 0;
  const groupsByState = {
    EMPTY: none,
    PREPARING_REBALANCE: none,
    COMPLETING_REBALANCE: none,
    STABLE: none,
    DEAD: none,
  };
  const subscriptionsByState = { ACTIVE: none, PAUSED: none, DEAD: none, CANCELLED: none };
  const sums = { members: none, inFlightRecords: none, lag: none };
  for (const group of groups) {
    groupsByState[group.phase]++;
    sums.members += group.members.size;
    for (const subscription of group.subscriptions.values()) {
      subscriptionsByState[subscription.row.state]++;
      sums.inFlightRecords += subscription.consumption.inFlightRecords;
      sums.lag += lagOf(subscription, topics);
    }
  }
  return { groups: groups.length + unloaded, groupsByState, subscriptionsByState, ...sums };
}

type Sums = Pick<
  DeliveryCounts,
  'groups' | 'groupsByState' | 'subscriptionsByState' | 'members' | 'inFlightRecords' | 'lag'
>;

/** The topics as the sums need them. */
export type AppendedLogs = Pick<TopicLogs, 'appendedRecords'>;

/** The un-acked records of a subscription, from sums: a million cursors take too long to visit. */
export function lagOf({ row, consumption }: ActiveSubscription, topics: AppendedLogs): number {
  return Math.max(0, topics.appendedRecords(row.topicId) - consumption.completedRecords);
}

/** The sums over all groups are counted once in this time, because anybody may ask for them. */
const sumsKeptMs = 1_000;

export class GroupSums {
  readonly #clock: GroupContext['clock'];
  readonly #topics: AppendedLogs;
  #last: { readonly atMs: number; readonly unloaded: number; readonly sums: Sums } | null = null;

  constructor(clock: GroupContext['clock'], topics: AppendedLogs) {
    this.#clock = clock;
    this.#topics = topics;
  }

  of(groups: readonly GroupModel[], unloaded: number): Sums {
    const nowMs = this.#clock.nowMs();
    const isFresh = this.#last?.unloaded === unloaded && nowMs - this.#last.atMs < sumsKeptMs;
    if (this.#last === null || !isFresh) {
      this.#last = { atMs: nowMs, unloaded, sums: sumsOf(groups, unloaded, this.#topics) };
    }
    return this.#last.sums;
  }
}

export function countsOf(
  sums: Sums,
  context: Pick<GroupContext, 'delivered' | 'counts' | 'lostAttempts' | 'memory' | 'jumps'>,
): DeliveryCounts {
  const { delivered, counts, lostAttempts, memory, jumps } = context;
  const { rebalanceMs, ...counted } = counts;
  return {
    ...sums,
    deliveredRecords: delivered.records,
    deliveredBytes: delivered.bytes,
    ...counted,
    rebalanceSeconds: rebalanceMs / 1_000,
    uncountedAttempts: lostAttempts.uncounted,
    gapRecords: jumps.lostRecords,
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

function memberDetails(group: GroupModel, row: MemberRow, held: Held): MemberDetails {
  return {
    memberId: row.memberId,
    clientId: row.clientId,
    host: row.host,
    instanceId: row.instanceId,
    kind: row.kind,
    topics: row.topicIds.flatMap((id) => group.subscriptions.get(id)?.topicName ?? []).sort(),
    partitions: held.partitions,
    partitionCount: held.partitionCount,
    revoking: held.revoking,
    revokingCount: held.revokingCount,
    sessionTimeoutMs: row.sessionTimeoutMs,
    rebalanceTimeoutMs: row.rebalanceTimeoutMs,
    maxPollIntervalMs: row.maxPollIntervalMs,
    stalled: group.isStalled(row.memberId),
    inFlightRecords: held.inFlightRecords,
    blockedOn: readerBlockedOn(group, row.memberId),
  };
}

function readerBlockedOn(group: GroupModel, memberId: MemberId): BlockedOn | null {
  for (const reader of group.members.get(memberId)?.readers ?? [])
    if (reader.blockedOn !== null) return reader.blockedOn;
  return null;
}
