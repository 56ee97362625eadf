import type { EncodedBatch } from '../../log/batch.ts';
import type { MemberId } from '../../coordinator/group.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';

/** What a stream tells its client; the edges turn it into SubscribeResponse. */

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
  | 'DEAD_LETTER';

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
  /** Who has it; null: nobody. */
  readonly memberId: MemberId | null;
  readonly inFlightRecords: number;
  /** How long ago the first record that is not acked was appended; null: there is none, or nobody has looked it up. */
  readonly oldestUnackedAgeMs: number | null;
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
      /** All that the member has; with `removed`, what it has gained. */
      readonly partitions: readonly TopicPartition[];
      /** What it has lost, if it is told changes. */
      readonly removed?: readonly TopicPartition[];
    }
  | {
      readonly type: 'revoking';
      readonly generation: number;
      readonly partitions: readonly TopicPartition[];
      /** By the wall clock, milliseconds since the epoch. */
      readonly deadlineAtMs: number;
    }
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
 * The transport's end of a stream. `batch.field` of an event is an encoded field 4 (see `EncodedBatch.bytes`), either
 * shared by every group or cut for this member; the edge puts the generation in front and sends it.
 */
export interface EventSink {
  send(event: StreamEvent): void;
  /** Bytes handed to the transport and not yet taken by its socket. */
  readonly unsentBytes: number;
  /** Called by the edge each time `unsentBytes` fell. Set by the session. */
  onDrain: (() => void) | null;
  /** Ends the stream: with an error, or well. Nothing is sent afterwards. */
  end(error: Rejection | null): void;
}

/**
 * Why a stream is over. CANCELLED: the client has ended it on a connection that stays open.
 * CONNECTION_LOST: its connection has ended or broken. ENDED: the broker has ended it.
 */
export type StreamEnd = 'CANCELLED' | 'CONNECTION_LOST' | 'ENDED';

/** An open stream, as the edge holds it. */
export interface MemberStream {
  /** Nothing is sent any more. Idempotent. */
  closed(reason: StreamEnd): void;
}

/** Re-exported for the edges. */
export type { EncodedBatch, MemberId };
