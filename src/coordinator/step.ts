import type { GroupChange, MemberId, MemberRow, PartitionRef, RebalanceRow } from './snapshot.ts';

/** The inputs of a step of the coordinator, and its effects. */

export type RemovalReason = 'LEFT' | 'STREAM_LOST' | 'SESSION_TIMEOUT' | 'REBALANCE_TIMEOUT';

/** One entry of a leader's plan. */
export interface PlannedPartition extends PartitionRef {
  readonly memberId: MemberId;
}

export type GroupInput =
  /**
   * A new member, or a change of a member. A sign of life, and with a change also of work.
   * `returning`: the caller names this member id. The join is refused if the member is gone.
   */
  | { readonly type: 'join'; readonly member: Omit<MemberRow, 'joinSeq'>; readonly returning?: boolean }
  | { readonly type: 'leave'; readonly memberId: MemberId; readonly reason: RemovalReason }
  /**
   * Any sign of life: Heartbeat, Pull, Ack. Moves the session deadline. `revoked` confirms
   * revocations.
   */
  | { readonly type: 'alive'; readonly memberId: MemberId; readonly revoked: readonly PartitionRef[] }
  /**
   * The progress of the member. `busySinceMs`: the time of its last ack, or of its first record or
   * its last read before that; null: the member reads, and has nothing to ack.
   */
  | { readonly type: 'progress'; readonly memberId: MemberId; readonly busySinceMs: number | null }
  /** A partition that is being revoked has nothing in flight any more. */
  | { readonly type: 'drained'; readonly partition: PartitionRef }
  /** The leader's plan for this generation. */
  | {
      readonly type: 'assign';
      readonly memberId: MemberId;
      readonly generation: number;
      readonly plan: readonly PlannedPartition[];
    }
  /** The group is subscribed to a topic with this many partitions (0: no longer). */
  | { readonly type: 'topic'; readonly topicId: number; readonly partitions: number }
  /** Whether the topic's partitions are withheld from all members, e.g. during a reset. */
  | { readonly type: 'hold'; readonly topicId: number; readonly held: boolean }
  /** Deletes the group. */
  | { readonly type: 'delete' }
  /** The time of `nextDeadlineMs()` has come. */
  | { readonly type: 'tick' };

/**
 * Why an input was refused. Nothing changed, except that a join counts as a sign of life and work.
 */
export type RefusalReason =
  | 'MEMBER_UNKNOWN'
  | 'INSTANCE_FENCED'
  | 'INSTANCE_ID_IN_USE'
  | 'INCONSISTENT_PROTOCOLS'
  | 'TASK_TOO_LARGE'
  | 'ASSIGNOR_FAILED'
  | 'NOT_LEADER'
  | 'STALE_GENERATION'
  | 'GROUP_NOT_EMPTY'
  | 'GROUP_DEAD';

/** In order. The first may be `persist`; the others are carried out once it is durable. */
export type GroupEffect =
  | { readonly type: 'persist'; readonly change: GroupChange }
  /**
   * A refused input, the same object that was given. A gathered join may come from an earlier step.
   */
  | {
      readonly type: 'refused';
      readonly input: GroupInput;
      readonly reason: RefusalReason;
      /** A sentence for the caller. */
      readonly message: string;
    }
  /** A member replaced another one with the same instance id, and holds all of its partitions. */
  | { readonly type: 'replaced'; readonly memberId: MemberId; readonly oldMemberId: MemberId }
  /**
   * Partitions given to a member, which holds them from now on. It includes partitions whose
   * revocation was called off: the member goes on with them.
   */
  | {
      readonly type: 'assigned';
      readonly memberId: MemberId;
      readonly generation: number;
      readonly added: readonly PartitionRef[];
    }
  /** Partitions to give back. `drained`, `alive.revoked` or the deadline ends the revocation. */
  | {
      readonly type: 'revoking';
      readonly memberId: MemberId;
      readonly generation: number;
      readonly partitions: readonly PartitionRef[];
      readonly deadlineMs: number;
    }
  /** Partitions taken from a member that stays. `stalled`: because it made no progress on them. */
  | {
      readonly type: 'revoked';
      readonly memberId: MemberId;
      readonly partitions: readonly PartitionRef[];
      readonly stalled: boolean;
    }
  /** The member is gone and holds nothing. */
  | { readonly type: 'removed'; readonly memberId: MemberId; readonly reason: RemovalReason }
  /** The assignor failed and no input could be refused, so `sticky` assigned the partitions. */
  | { readonly type: 'assignorFailed'; readonly assignor: string; readonly message: string }
  /** A rebalance is over. */
  | { readonly type: 'rebalanced'; readonly rebalance: RebalanceRow };

export type GroupState = 'EMPTY' | 'PREPARING_REBALANCE' | 'COMPLETING_REBALANCE' | 'STABLE' | 'DEAD';

export interface Holder {
  readonly memberId: MemberId;
  readonly sinceGeneration: number;
  /** The partition is being revoked from its holder. */
  readonly revoking: boolean;
}
