import type { MemberId } from '../../coordinator/group.ts';
import type { NamedLog } from './offsets.ts';

/** The commands and outcomes of Ack, by which a member settles the records that it got. */

export type AckAction = 'ACK' | 'NACK' | 'RELEASE';
export type AckStatus =
  'OK' | 'ALREADY_ACKED' | 'STALE_GENERATION' | 'NOT_OWNER' | 'LEASE_EXPIRED' | 'UNKNOWN_OFFSET' | 'LANE_REQUIRED';

export interface AckEntry extends NamedLog {
  readonly action: AckAction;
  readonly upToOffset: number | null;
  /**
   * Runs [first, last, …], ascending, merged, from `offsets` or `ranges`; null with `upToOffset`.
   */
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
  /** null if the group has no such log, or if the lane is missing. */
  readonly committedOffset: number | null;
}
