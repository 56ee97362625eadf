/** Stub of types, to be replaced by the machine. See below for the contract. */
export type MemberId = string & { readonly brand: 'MemberId' };
export type MemberKind = 'STREAM' | 'PULL' | 'CLASSIC';
export type AssignorName = 'range' | 'round_robin' | 'sticky';

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

/** What one step changed, to be made durable before anybody is told. */
export interface GroupChange {
  readonly generation: number;
  readonly putMembers: readonly MemberRow[];
  readonly removedMembers: readonly MemberId[];
  readonly putAssignments: readonly AssignmentRow[];
  readonly removedAssignments: readonly PartitionRef[];
}

export type RemovalReason = 'LEFT' | 'STREAM_LOST' | 'SESSION_TIMEOUT';

export type GroupInput =
  | { readonly type: 'join'; readonly member: Omit<MemberRow, 'joinSeq'> }
  | { readonly type: 'leave'; readonly memberId: MemberId; readonly reason: RemovalReason }
  /** Any sign of life: Heartbeat, Pull, Ack. Moves the session deadline. `revoked` confirms revocations. */
  | { readonly type: 'alive'; readonly memberId: MemberId; readonly revoked: readonly PartitionRef[] }
  /** Nothing of a partition that is being revoked is in flight any more. */
  | { readonly type: 'drained'; readonly partition: PartitionRef }
  /** The group is subscribed to a topic with this many partitions (0: no longer). */
  | { readonly type: 'topic'; readonly topicId: number; readonly partitions: number }
  /** The time has come that `nextDeadlineMs()` named. */
  | { readonly type: 'tick' };

/** In order; to be carried out after `persist` is durable. */
export type GroupEffect =
  | { readonly type: 'persist'; readonly change: GroupChange }
  /** Partitions given to a member; it holds them from now on. */
  | { readonly type: 'assigned'; readonly memberId: MemberId; readonly generation: number; readonly added: readonly PartitionRef[] }
  /** Partitions that the member has to give back. `drained`, `alive.revoked` or the deadline ends it. */
  | { readonly type: 'revoking'; readonly memberId: MemberId; readonly generation: number; readonly partitions: readonly PartitionRef[]; readonly deadlineMs: number }
  /** Partitions that the member does not hold any more. */
  | { readonly type: 'revoked'; readonly memberId: MemberId; readonly partitions: readonly PartitionRef[] }
  | { readonly type: 'removed'; readonly memberId: MemberId; readonly reason: RemovalReason };

export type GroupState = 'EMPTY' | 'RECONCILING' | 'STABLE';
