import type { GroupChange, MemberId, MemberRow, PartitionRef } from './snapshot.ts';

/** What goes into a step of the coordinator, and what comes out. */

export type RemovalReason = 'LEFT' | 'STREAM_LOST' | 'SESSION_TIMEOUT';

export type GroupInput =
  /** A new member, or what is new of a member that exists. It is a sign of life. */
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

/** In order; to be carried out after `persist`, the first if there is one, is durable. */
export type GroupEffect =
  | { readonly type: 'persist'; readonly change: GroupChange }
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
  /** Partitions that the member, which stays, does not hold any more. */
  | { readonly type: 'revoked'; readonly memberId: MemberId; readonly partitions: readonly PartitionRef[] }
  /** The member is gone, and holds nothing any more. */
  | { readonly type: 'removed'; readonly memberId: MemberId; readonly reason: RemovalReason };

export type GroupState = 'EMPTY' | 'RECONCILING' | 'STABLE';

export interface Holder {
  readonly memberId: MemberId;
  readonly sinceGeneration: number;
  /** The holder has been asked to give it back. */
  readonly revoking: boolean;
}
