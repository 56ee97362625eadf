import type { AssignorName, GroupState, MemberId, MemberKind } from '../../coordinator/group.ts';
import type { BlockedOn, PartitionStatus, TopicPartition } from './session.ts';

/** Groups and members as answers and metrics show them. */

export interface GroupSummary {
  readonly name: string;
  readonly state: GroupState;
  readonly generation: number;
  readonly assignor: AssignorName;
  readonly leaderId: MemberId | null;
  readonly memberCount: number;
  readonly topics: readonly string[];
  readonly lag: number;
  readonly inFlightRecords: number;
}

/** Selects the groups of a list. */
export interface GroupFilter {
  /** An empty list selects groups in any state. */
  readonly states: readonly GroupState[];
  /** null selects groups whatever their subscriptions. */
  readonly topic: string | null;
}

export interface MemberDetails {
  readonly memberId: MemberId;
  readonly clientId: string;
  readonly host: string;
  readonly instanceId: string | null;
  readonly kind: MemberKind;
  readonly topics: readonly string[];
  readonly partitions: readonly TopicPartition[];
  readonly revoking: readonly TopicPartition[];
  readonly sessionTimeoutMs: number | null;
  readonly rebalanceTimeoutMs: number;
  readonly maxPollIntervalMs: number;
  readonly stalled: boolean;
  readonly inFlightRecords: number;
  readonly blockedOn: BlockedOn | null;
}

export interface GroupMembers {
  readonly generation: number;
  /** Ordered by id. */
  readonly members: readonly MemberDetails[];
}

export interface GroupDetails {
  readonly group: GroupSummary;
  readonly members: readonly MemberDetails[];
  readonly partitions: readonly PartitionStatus[];
}
