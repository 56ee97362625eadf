import type { MemberId } from '../../coordinator/group.ts';
import type { LogName } from '../../log/lanes.ts';
import type { TopicPartition } from './session.ts';

/** The commands and outcomes of CommitOffsets, FetchOffsets and ResetOffsets. */

/** A log as a request names it. */
export interface NamedLog extends LogName {
  readonly topic: string;
}

export type OffsetStatus =
  'OK' | 'NOT_ADVANCED' | 'STALE_GENERATION' | 'NOT_OWNER' | 'UNKNOWN_OFFSET' | 'UNKNOWN_PARTITION' | 'LANE_REQUIRED';

export interface OffsetCommit extends NamedLog {
  /** The lowest offset that is not done. */
  readonly offset: number;
  readonly metadata: string;
}

export interface CommitOffsetsCommand {
  readonly group: string;
  /** null for a client without membership, which may commit only for a group without members. */
  readonly member: { readonly memberId: MemberId; readonly generation: number } | null;
  readonly offsets: readonly OffsetCommit[];
}

export interface CommittedOffset extends TopicPartition {
  readonly lane: number;
  readonly status: OffsetStatus;
  /** null if the group has no such log, or if the lane is missing. */
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
  /** Forward from the committed offset by so many records, or back if negative. */
  | { readonly type: 'shift'; readonly by: number };

export interface ResetOffsetsCommand {
  readonly group: string;
  /** Without topics and partitions the reset affects all subscriptions. */
  readonly topics: readonly string[];
  readonly partitions: readonly NamedLog[];
  readonly to: ResetTo;
  readonly dryRun: boolean;
  /** Revokes the partitions from their members first. */
  readonly force: boolean;
}

export interface ResetOffset extends TopicPartition {
  readonly lane: number;
  readonly previousOffset: number;
  readonly offset: number;
  readonly lag: number;
}
