import type { AssignorName, MemberId } from '../../coordinator/group.ts';
import type { Reply } from './reply.ts';
import type { BlockedOn, GapOfLog, TopicPartition } from './session.ts';
import type { StartPosition } from './subscriptions.ts';

/** The commands and outcomes of Subscribe, Pull, JoinGroup, SyncGroup and Heartbeat. */

/** The fields that all calls share which create or resume a member. */
export interface EnterCommand {
  readonly group: string;
  readonly topics: readonly string[];
  readonly start: StartPosition;
  /** The member to resume; null creates one. */
  readonly memberId: MemberId | null;
  readonly clientId: string;
  readonly instanceId: string | null;
  readonly maxPollIntervalMs: number;
  /** A new member leaves when the reply is lost. */
  readonly reply: Reply;
  /** The client passes the lane of a batch back in its acks. */
  readonly lanes: boolean;
}

export interface SubscribeCommand extends EnterCommand {
  readonly maxInFlightRecords: number;
  readonly maxInFlightBytes: number;
  readonly sessionTimeoutMs: number | null;
  readonly rebalanceTimeoutMs: number;
  readonly assignor: AssignorName;
  readonly metadata: Uint8Array;
  readonly autoAck: boolean;
  /** The stream sends changes of the assignment instead of the whole assignment. */
  readonly assignmentChanges: boolean;
}

export interface PullCommand extends EnterCommand {
  readonly maxRecords: number;
  readonly maxBytes: number;
  /** Checks a first record that is larger than `maxBytes`. @throws Rejection */
  readonly checkRecord?: (batch: Buffer) => void;
  readonly waitMs: number;
  readonly sessionTimeoutMs: number;
  readonly autoAck: boolean;
}

export interface PullOutcome {
  readonly memberId: MemberId;
  readonly generation: number;
  /** By the wall clock; null without records or with auto-ack. */
  readonly leaseDeadlineAtMs: number | null;
  /** Encoded field 4 (see `EncodedBatch.bytes`), one for each batch. */
  readonly fields: readonly Buffer[];
  readonly blockedOn: BlockedOn | null;
  readonly gaps: readonly GapOfLog[];
}

export interface HeartbeatCommand {
  readonly group: string;
  readonly memberId: MemberId;
  /**
   * The generation in which the member got the partitions that it gives back. null only without
   * `revoked`: the broker could not tell a late call from a current one.
   */
  readonly generation: number | null;
  readonly revoked: readonly TopicPartition[];
}

export interface HeartbeatOutcome {
  readonly generation: number;
  readonly heartbeatIntervalMs: number;
  /** The first `limits.heartbeatPartitionsMax`, which one heartbeat can give back. */
  readonly revoking: readonly TopicPartition[];
  readonly moreRevoking: boolean;
  /** The member is the leader, and the group waits for its plan. */
  readonly planWanted: boolean;
}

export interface JoinGroupCommand extends EnterCommand {
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  readonly assignor: AssignorName;
  readonly clientAssignors: readonly string[];
  readonly metadata: Uint8Array;
}

export interface MemberAssignment {
  readonly memberId: MemberId;
  readonly partitions: readonly TopicPartition[];
}

/** The input of a leader's plan: members, topics, and the current assignment. */
export interface AssignmentTask {
  readonly members: readonly {
    readonly memberId: MemberId;
    readonly clientId: string;
    readonly instanceId: string | null;
    readonly topics: readonly string[];
    readonly metadata: Uint8Array;
  }[];
  readonly topics: readonly { readonly topic: string; readonly partitions: number }[];
  /** null if it would make the answer too large. */
  readonly current: readonly MemberAssignment[] | null;
}

export interface JoinGroupOutcome {
  readonly memberId: MemberId;
  readonly generation: number;
  readonly heartbeatIntervalMs: number;
  readonly sessionTimeoutMs: number;
  readonly maxPollIntervalMs: number;
  readonly leaderId: MemberId | null;
  readonly assignor: string;
  /** For the leader only, while the group waits for its plan. */
  readonly task: AssignmentTask | null;
}

export interface SyncGroupCommand {
  readonly group: string;
  readonly memberId: MemberId;
  readonly knownGeneration: number | null;
  /** From the leader: the assignment of a generation. */
  readonly plan: { readonly generation: number; readonly members: readonly MemberAssignment[] } | null;
  readonly waitMs: number;
  /** Aborted when the client has gone, which ends the wait. */
  readonly signal: AbortSignal;
}

export interface SyncGroupOutcome {
  readonly generation: number;
  /** Differs whenever the partitions of the member have changed. */
  readonly version: string;
  /** Ordered by topic and partition. */
  readonly partitions: readonly HeldPartition[];
}

export interface HeldPartition {
  readonly place: TopicPartition;
  readonly revoking: boolean;
}
