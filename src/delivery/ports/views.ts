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
  /** In order; in lists the first ones. */
  readonly topics: readonly string[];
  readonly topicCount: number;
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
  /** The first `limits.listedPartitionsMax`, and so are those of `revoking`. */
  readonly partitions: readonly TopicPartition[];
  readonly partitionCount: number;
  readonly revoking: readonly TopicPartition[];
  readonly revokingCount: number;
  readonly sessionTimeoutMs: number | null;
  readonly rebalanceTimeoutMs: number;
  readonly maxPollIntervalMs: number;
  readonly stalled: boolean;
  readonly inFlightRecords: number;
  readonly blockedOn: BlockedOn | null;
}

/** A log of a group, whose status is built only for an answer that shows it. */
export interface ListedLog {
  readonly topic: string;
  readonly key: { readonly partition: number; readonly lane: number };
  status(): PartitionStatus;
}

/** A group at one moment. Its parts are built only for an answer that shows them. */
export interface GroupView {
  readonly generation: number;
  /** With the first topics only. */
  summary(): GroupSummary;
  /** In order. */
  memberIds(): readonly MemberId[];
  /** A member that `memberIds` names. */
  member(memberId: MemberId): MemberDetails;
  /** Ordered by topic, partition and lane. */
  logs(): readonly ListedLog[];
}
