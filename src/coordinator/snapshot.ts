import type { AssignorName } from './assignors/assignor.ts';

/** The durable state of a group: the rows that it is loaded from, and the changes of a step. */

export type MemberId = string & { readonly brand: 'MemberId' };
export type MemberKind = 'STREAM' | 'PULL' | 'CLASSIC';

export interface PartitionRef {
  readonly topicId: number;
  readonly partition: number;
}

/** The durable row of a member. */
export interface MemberRow {
  readonly memberId: MemberId;
  readonly clientId: string;
  readonly host: string;
  /** A name that outlives its process: a join with it takes the member's place. null: none. */
  readonly instanceId: string | null;
  readonly kind: MemberKind;
  /** null: the member lives as long as its stream. */
  readonly sessionTimeoutMs: number | null;
  readonly rebalanceTimeoutMs: number;
  /** How long the member may hold records without acking any. */
  readonly maxPollIntervalMs: number;
  readonly assignor: AssignorName;
  /** The member's own assignors, the best first; empty: the broker assigns. */
  readonly clientAssignors: readonly string[];
  /** Data for the assignor; the broker does not read it. */
  readonly metadata: Uint8Array;
  /** Ascending, without duplicates. */
  readonly topicIds: readonly number[];
  /** Order of joining within the group. */
  readonly joinSeq: number;
}

/** The durable row of an assignment. */
export interface AssignmentRow extends PartitionRef {
  readonly memberId: MemberId;
  /** The generation since which the member holds the partition. */
  readonly sinceGeneration: number;
}

/** Why a rebalance was called for. */
export type RebalanceReason =
  | 'MEMBER_JOINED'
  | 'MEMBER_LEFT'
  | 'STREAM_LOST'
  | 'SESSION_TIMEOUT'
  | 'REBALANCE_TIMEOUT'
  | 'MAX_POLL_INTERVAL'
  | 'MEMBER_RESUMED'
  | 'MEMBER_CHANGED'
  | 'PARTITIONS_CHANGED'
  | 'OFFSETS_RESET'
  | 'TAKEOVER';

export interface RebalanceCause {
  readonly reason: RebalanceReason;
  /** The first member that the cause concerns; null: none. */
  readonly memberId: MemberId | null;
  /** How often the cause occurred before the rebalance began. */
  readonly count: number;
}

/** A rebalance that is over. */
export interface RebalanceRow {
  /** The generation that it began. */
  readonly generation: number;
  readonly causes: readonly RebalanceCause[];
  /** From the first cause until every partition had arrived, or the next rebalance began. */
  readonly durationMs: number;
  readonly memberCount: number;
  /** Partitions given to a member. */
  readonly assignedCount: number;
  /** Partitions taken from a live member. */
  readonly revokedCount: number;
  /** False: the next rebalance began before all partitions had arrived. */
  readonly completed: boolean;
}

/** A loaded group. */
export interface GroupSnapshot {
  readonly generation: number;
  readonly members: readonly MemberRow[];
  readonly assignments: readonly AssignmentRow[];
}

/**
 * The changes of one step, to be made durable before any client learns of them. It has rows, not
 * increments, so writing it twice is harmless. No member and no partition is both put and removed.
 */
export interface GroupChange {
  readonly generation: number;
  readonly putMembers: readonly MemberRow[];
  readonly removedMembers: readonly MemberId[];
  readonly putAssignments: readonly AssignmentRow[];
  readonly removedAssignments: readonly PartitionRef[];
  /** Rebalances that are over. */
  readonly rebalances: readonly RebalanceRow[];
}
