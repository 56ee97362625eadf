import type { EncodedBatch } from '../../log/batch.ts';
import type { MemberId } from '../../coordinator/group.ts';
import type { LogGap } from '../../retention/gap.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';

/** The events of a stream, which the edges translate into SubscribeResponse, and its ends. */

export type BlockedOn =
  | 'NO_ASSIGNMENT'
  | 'CREDIT'
  | 'WINDOW'
  | 'RETRY'
  | 'REVOKING'
  | 'SLOW_READER'
  | 'CAUGHT_UP'
  | 'READING'
  | 'MAX_POLL_INTERVAL'
  | 'DEAD_LETTER'
  | 'PAUSED';

export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

export interface PartitionStatus extends TopicPartition {
  readonly lane: number;
  readonly committedOffset: number;
  readonly highWatermark: number;
  readonly lag: number;
  readonly blockedOn: BlockedOn | null;
  /** The member that holds the partition; null if none does. */
  readonly memberId: MemberId | null;
  readonly inFlightRecords: number;
  /**
   * The time since the append of the first un-acked record; null without one, or before a look-up.
   */
  readonly oldestUnackedAgeMs: number | null;
}

/** What retention has taken from a group in one log. */
export interface GapOfLog extends TopicPartition, LogGap {
  readonly lane: number;
}

export type StreamEvent =
  | {
      readonly type: 'joined';
      readonly memberId: MemberId;
      readonly generation: number;
      readonly heartbeatIntervalMs: number | null;
      readonly sessionTimeoutMs: number | null;
      readonly maxPollIntervalMs: number;
    }
  | {
      readonly type: 'assigned';
      readonly generation: number;
      /** All partitions of the member. With `removed` only those that it has gained. */
      readonly partitions: readonly TopicPartition[];
      /** The partitions that the member has lost, if its stream sends changes. */
      readonly removed?: readonly TopicPartition[];
    }
  | {
      readonly type: 'revoking';
      readonly generation: number;
      readonly partitions: readonly TopicPartition[];
      /** By the wall clock, milliseconds since the epoch. */
      readonly deadlineAtMs: number;
    }
  | ({ readonly type: 'gap'; readonly generation: number } & GapOfLog)
  | { readonly type: 'batch'; readonly generation: number; readonly field: Buffer }
  | {
      readonly type: 'idle';
      readonly generation: number;
      readonly blockedOn: BlockedOn;
      readonly lag: number;
      readonly inFlightRecords: number;
      readonly inFlightBytes: number;
      readonly partitions: readonly PartitionStatus[];
    }
  | {
      readonly type: 'draining';
      readonly generation: number;
      readonly memberId: MemberId;
      readonly deadlineAtMs: number;
    };

/**
 * The transport's end of a stream. `field` of a batch event is an encoded field 4 (see
 * `EncodedBatch.bytes`), either shared by all groups or cut for this member. The edge puts the
 * generation in front of it.
 */
export interface EventSink {
  send(event: StreamEvent): void;
  /** Bytes handed to the transport and not yet taken by its socket, with what each event costs. */
  readonly unsentBytes: number;
  /** The session sets it, and the edge calls it whenever `unsentBytes` has fallen. */
  onDrain: (() => void) | null;
  /** Ends the stream, with an error or without. Nothing is sent afterwards. */
  end(error: Rejection | null): void;
  /**
   * Whether the client has taken something since the last call, or has nothing to take. Called
   * every few seconds.
   */
  hasProgress(): boolean;
  /** Cuts the stream off, because its client does not take the end either. */
  cut(): void;
}

/**
 * Why a stream has ended. CANCELLED: the client has ended it on a connection that stays open.
 * CONNECTION_LOST: its connection has ended or broken. ENDED: the broker has ended it.
 */
export type StreamEnd = 'CANCELLED' | 'CONNECTION_LOST' | 'ENDED';

/** An open stream, for the edge. */
export interface MemberStream {
  /** The edge calls it when the stream has ended. Nothing is sent afterwards. Idempotent. */
  closed(reason: StreamEnd): void;
}

/** Re-exported for the edges. */
export type { EncodedBatch, MemberId };
