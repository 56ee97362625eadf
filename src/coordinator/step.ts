import type { GroupChange, MemberId, MemberRow, PartitionRef, RebalanceRow } from './snapshot.ts';

/** What goes into a step of the coordinator, and what comes out. */

export type RemovalReason = 'LEFT' | 'STREAM_LOST' | 'SESSION_TIMEOUT' | 'REBALANCE_TIMEOUT';

/** One entry of an assignment that a leader has made. */
export interface PlannedPartition extends PartitionRef {
  readonly memberId: MemberId;
}

export type GroupInput =
  /**
   * A new member, or what is new of a member that exists. It is a sign of life and, if it wishes something new, of work.
   * `returning`: the caller is a member by this id, and the join is refused if the member has gone meanwhile.
   */
  | { readonly type: 'join'; readonly member: Omit<MemberRow, 'joinSeq'>; readonly returning?: boolean }
  | { readonly type: 'leave'; readonly memberId: MemberId; readonly reason: RemovalReason }
  /** Any sign of life: Heartbeat, Pull, Ack. Moves the session deadline. `revoked` confirms revocations. */
  | { readonly type: 'alive'; readonly memberId: MemberId; readonly revoked: readonly PartitionRef[] }
  /**
   * What the member does with what it holds. `busySinceMs`: when it acked last, or was given something or stopped to read while it had
   * nothing; null: it reads, and has nothing that it could ack.
   */
  | { readonly type: 'progress'; readonly memberId: MemberId; readonly busySinceMs: number | null }
  /** Nothing of a partition that is being revoked is in flight any more. */
  | { readonly type: 'drained'; readonly partition: PartitionRef }
  /** The leader says who is to have what in this generation. */
  | {
      readonly type: 'assign';
      readonly memberId: MemberId;
      readonly generation: number;
      readonly plan: readonly PlannedPartition[];
    }
  /** The group is subscribed to a topic with this many partitions (0: no longer). */
  | { readonly type: 'topic'; readonly topicId: number; readonly partitions: number }
  /** Whether the partitions of a topic are withheld from everybody, e.g. while its offsets are reset. */
  | { readonly type: 'hold'; readonly topicId: number; readonly held: boolean }
  /** The group is to end. */
  | { readonly type: 'delete' }
  /** The time has come that `nextDeadlineMs()` named. */
  | { readonly type: 'tick' };

/** Why an input was refused: nothing has changed. A join that is refused because the assignor failed was a sign of life and of work. */
export type RefusalReason =
  | 'MEMBER_UNKNOWN'
  | 'INSTANCE_FENCED'
  | 'INSTANCE_ID_IN_USE'
  | 'INCONSISTENT_PROTOCOLS'
  | 'ASSIGNOR_FAILED'
  | 'NOT_LEADER'
  | 'STALE_GENERATION'
  | 'GROUP_NOT_EMPTY'
  | 'GROUP_DEAD';

/** In order; to be carried out after `persist`, the first if there is one, is durable. */
export type GroupEffect =
  | { readonly type: 'persist'; readonly change: GroupChange }
  /** An input that changed nothing, the same object that was given; a join may have been given in an earlier step, and gathered. */
  | {
      readonly type: 'refused';
      readonly input: GroupInput;
      readonly reason: RefusalReason;
      /** A sentence for whoever sent it. */
      readonly message: string;
    }
  /** A member took the place of another one with the same instance id, which is gone: everything it held is the new one's. */
  | { readonly type: 'replaced'; readonly memberId: MemberId; readonly oldMemberId: MemberId }
  /**
   * Partitions given to a member; it holds them from now on. One that it holds already is among them when it is not
   * asked back any more: the member goes on with it.
   */
  | {
      readonly type: 'assigned';
      readonly memberId: MemberId;
      readonly generation: number;
      readonly added: readonly PartitionRef[];
    }
  /** Partitions that the member has to give back. `drained`, `alive.revoked` or the deadline ends it. */
  | {
      readonly type: 'revoking';
      readonly memberId: MemberId;
      readonly generation: number;
      readonly partitions: readonly PartitionRef[];
      readonly deadlineMs: number;
    }
  /** Partitions that the member, which stays, does not hold any more. `stalled`: they were taken because it did not work on them. */
  | {
      readonly type: 'revoked';
      readonly memberId: MemberId;
      readonly partitions: readonly PartitionRef[];
      readonly stalled: boolean;
    }
  /** The member is gone, and holds nothing any more. */
  | { readonly type: 'removed'; readonly memberId: MemberId; readonly reason: RemovalReason }
  /** The assignor failed where nobody could be refused: partitions were given out by `sticky`. */
  | { readonly type: 'assignorFailed'; readonly assignor: string; readonly message: string }
  /** A rebalance is over. */
  | { readonly type: 'rebalanced'; readonly rebalance: RebalanceRow };

export type GroupState = 'EMPTY' | 'PREPARING_REBALANCE' | 'COMPLETING_REBALANCE' | 'STABLE' | 'DEAD';

export interface Holder {
  readonly memberId: MemberId;
  readonly sinceGeneration: number;
  /** The holder has been asked to give it back. */
  readonly revoking: boolean;
}
