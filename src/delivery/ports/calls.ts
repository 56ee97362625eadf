import type { AssignorName, GroupState, MemberId, MemberKind } from '../../coordinator/group.ts';
import type { LogName } from '../../log/lanes.ts';
import type { Reply } from './reply.ts';
import type { BlockedOn, PartitionStatus, TopicPartition } from './session.ts';

/** The calls on groups and subscriptions, and what they answer, in plain types; the edges translate them from and to the proto. */

export type StartPosition =
  | { readonly type: 'earliest' }
  | { readonly type: 'latest' }
  | {
      readonly type: 'offsets';
      readonly offset: number | null;
      readonly partitions: readonly (LogName & { readonly offset: number })[];
    }
  /** Microseconds since the epoch. */
  | { readonly type: 'time'; readonly timeUs: number };

/** What every call that makes or resumes a member says. */
export interface EnterCommand {
  readonly group: string;
  readonly topics: readonly string[];
  readonly start: StartPosition;
  /** This member; null: a new one. */
  readonly memberId: MemberId | null;
  readonly clientId: string;
  readonly instanceId: string | null;
  readonly maxPollIntervalMs: number;
  /** A new member leaves when it is lost. */
  readonly reply: Reply;
  /** Hands the lane of a batch back in its acks. */
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
  /** To be told changes of the assignment, not all of it each time. */
  readonly assignmentChanges: boolean;
}

export interface PullCommand extends EnterCommand {
  readonly maxRecords: number;
  readonly maxBytes: number;
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
}

/** Which log of which topic an entry is about. */
export interface NamedLog extends LogName {
  readonly topic: string;
}

export type AckAction = 'ACK' | 'NACK' | 'RELEASE';
export type AckStatus =
  'OK' | 'ALREADY_ACKED' | 'STALE_GENERATION' | 'NOT_OWNER' | 'LEASE_EXPIRED' | 'UNKNOWN_OFFSET' | 'LANE_REQUIRED';

export interface AckEntry extends NamedLog {
  readonly action: AckAction;
  readonly upToOffset: number | null;
  /** Runs [first, last, …], ascending, merged, from `offsets` or `ranges`; null with `upToOffset`. */
  readonly runs: readonly number[] | null;
  /** NACK only; null: the default backoff. */
  readonly delayMs: number | null;
  readonly error: string;
}

export interface AckCommand {
  readonly group: string;
  readonly memberId: MemberId;
  readonly generation: number;
  readonly entries: readonly AckEntry[];
}

export interface AckOutcome {
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
  readonly status: AckStatus;
  /** null if no log was found: the topic, the partition or the subscription does not exist, or the lane is not named. */
  readonly committedOffset: number | null;
}

export interface HeartbeatCommand {
  readonly group: string;
  readonly memberId: MemberId;
  /** null only without `revoked`: which generation's partitions are given back would be a guess. */
  readonly generation: number | null;
  readonly revoked: readonly TopicPartition[];
}

export interface HeartbeatOutcome {
  readonly generation: number;
  readonly heartbeatIntervalMs: number;
  readonly revoking: readonly TopicPartition[];
  /** The member is the leader, and who gets what is for it to say. */
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

/** What a leader has to give out, and to whom. */
export interface AssignmentTask {
  readonly members: readonly {
    readonly memberId: MemberId;
    readonly clientId: string;
    readonly instanceId: string | null;
    readonly topics: readonly string[];
    readonly metadata: Uint8Array;
  }[];
  readonly topics: readonly { readonly topic: string; readonly partitions: number }[];
  readonly current: readonly MemberAssignment[];
}

export interface JoinGroupOutcome {
  readonly memberId: MemberId;
  readonly generation: number;
  readonly heartbeatIntervalMs: number;
  readonly sessionTimeoutMs: number;
  readonly maxPollIntervalMs: number;
  readonly leaderId: MemberId | null;
  readonly assignor: string;
  /** For the leader, while its plan is wanted. */
  readonly task: AssignmentTask | null;
}

export interface SyncGroupCommand {
  readonly group: string;
  readonly memberId: MemberId;
  readonly knownGeneration: number | null;
  /** From the leader: who is to have what in a generation. */
  readonly plan: { readonly generation: number; readonly members: readonly MemberAssignment[] } | null;
  readonly waitMs: number;
  /** Aborted when the client has gone: the wait ends. */
  readonly signal: AbortSignal;
}

export interface SyncGroupOutcome {
  readonly generation: number;
  readonly partitions: readonly TopicPartition[];
  readonly revoking: readonly TopicPartition[];
}

export type OffsetStatus =
  'OK' | 'NOT_ADVANCED' | 'STALE_GENERATION' | 'NOT_OWNER' | 'UNKNOWN_OFFSET' | 'UNKNOWN_PARTITION' | 'LANE_REQUIRED';

export interface OffsetCommit extends NamedLog {
  /** The next offset to be read. */
  readonly offset: number;
  readonly metadata: string;
}

export interface CommitOffsetsCommand {
  readonly group: string;
  /** null: a client that holds nothing, of a group without members. */
  readonly member: { readonly memberId: MemberId; readonly generation: number } | null;
  readonly offsets: readonly OffsetCommit[];
}

export interface CommittedOffset extends TopicPartition {
  readonly lane: number;
  readonly status: OffsetStatus;
  /** null if no log was found. */
  readonly committedOffset: number | null;
}

export interface FetchedOffset extends TopicPartition {
  readonly lane: number;
  readonly status: Extract<OffsetStatus, 'OK' | 'UNKNOWN_PARTITION' | 'LANE_REQUIRED'>;
  /** null unless the status is OK. */
  readonly committed: {
    readonly offset: number;
    readonly metadata: string;
    readonly highWatermark: number;
    readonly lag: number;
  } | null;
}

export type ResetTo =
  | { readonly type: 'earliest' | 'latest' }
  | { readonly type: 'offset'; readonly offset: number }
  /** Microseconds since the epoch. */
  | { readonly type: 'time'; readonly timeUs: number }
  /** So many records from the committed offset, back if negative. */
  | { readonly type: 'shift'; readonly by: number };

export interface ResetOffsetsCommand {
  readonly group: string;
  /** With neither topics nor partitions: all subscriptions. */
  readonly topics: readonly string[];
  readonly partitions: readonly NamedLog[];
  readonly to: ResetTo;
  readonly dryRun: boolean;
  /** Takes the partitions back from the members first. */
  readonly force: boolean;
}

export interface ResetOffset extends TopicPartition {
  readonly lane: number;
  readonly previousOffset: number;
  readonly offset: number;
  readonly lag: number;
}

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

/** Which groups a list shows. */
export interface GroupFilter {
  /** Empty: in any state. */
  readonly states: readonly GroupState[];
  /** null: whatever they are subscribed to. */
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
  /** In the order of their ids. */
  readonly members: readonly MemberDetails[];
}

export interface GroupDetails {
  readonly group: GroupSummary;
  readonly members: readonly MemberDetails[];
  readonly partitions: readonly PartitionStatus[];
}

export interface CreateSubscriptionCommand {
  readonly group: string;
  readonly topic: string;
  readonly start: StartPosition;
}

export interface SubscriptionDetails {
  readonly id: number;
  readonly group: string;
  readonly topic: string;
  readonly state: 'ACTIVE' | 'CANCELLED';
  readonly createdAtMs: number;
}

export interface SubscriptionWithCursors {
  readonly subscription: SubscriptionDetails;
  readonly partitions: readonly PartitionStatus[];
}
