import type { AssignorName } from './assignors/assignor.ts';

/** What is durable of a group: the rows it is loaded from, and the changes that a step asks to be written. */

export type MemberId = string & { readonly brand: 'MemberId' };
export type MemberKind = 'STREAM' | 'PULL' | 'CLASSIC';

export interface PartitionRef {
  readonly topicId: number;
  readonly partition: number;
}

/** What is durable of a member. */
export interface MemberRow {
  readonly memberId: MemberId;
  readonly clientId: string;
  readonly host: string;
  /** A name that outlives its process: whoever joins with it takes the member's place. null: none. */
  readonly instanceId: string | null;
  readonly kind: MemberKind;
  /** null: lives as long as its stream. */
  readonly sessionTimeoutMs: number | null;
  readonly rebalanceTimeoutMs: number;
  /** How long it may keep what it was given without acking anything. */
  readonly maxPollIntervalMs: number;
  readonly assignor: AssignorName;
  /** Rules by which the member can give out partitions itself, the best first; empty: the broker gives them out. */
  readonly clientAssignors: readonly string[];
  /** For the assignor, whoever runs it; the broker does not read it. */
  readonly metadata: Uint8Array;
  /** Ascending, each once. */
  readonly topicIds: readonly number[];
  /** Order of joining within the group. */
  readonly joinSeq: number;
}

/** What is durable of an assignment. */
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
  /** The first member that it is about; null: none is. */
  readonly memberId: MemberId | null;
  /** How often it came up before the rebalance began. */
  readonly count: number;
}

/** A rebalance that is over. */
export interface RebalanceRow {
  /** The generation that it began. */
  readonly generation: number;
  readonly causes: readonly RebalanceCause[];
  /** From the first cause until everything was where it belongs, or the next rebalance began. */
  readonly durationMs: number;
  readonly memberCount: number;
  /** Partitions that came to a member. */
  readonly assignedCount: number;
  /** Partitions that were taken from a live member. */
  readonly revokedCount: number;
  /** False: the next rebalance began before all partitions had arrived. */
  readonly completed: boolean;
}

/** A group as it is loaded. */
export interface GroupSnapshot {
  readonly generation: number;
  readonly members: readonly MemberRow[];
  readonly assignments: readonly AssignmentRow[];
}

/**
 * What one step changed, to be made durable before anybody is told. It says what is, not what to add: writing it twice
 * is harmless. No member and no partition is both put and removed.
 */
export interface GroupChange {
  readonly generation: number;
  readonly putMembers: readonly MemberRow[];
  readonly removedMembers: readonly MemberId[];
  readonly putAssignments: readonly AssignmentRow[];
  readonly removedAssignments: readonly PartitionRef[];
  /** Those that are over by now. */
  readonly rebalances: readonly RebalanceRow[];
}
