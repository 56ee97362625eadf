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
  readonly kind: MemberKind;
  /** null: lives as long as its stream. */
  readonly sessionTimeoutMs: number | null;
  readonly rebalanceTimeoutMs: number;
  readonly assignor: AssignorName;
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
}
