import type { PublishCommand, PublishedRecords } from './publish.ts';
import type { QueuedSize } from './queue-room.ts';
import type { RoutedPublish } from './route.ts';
import type { Settlement } from './settlements.ts';

/**
 * Publishes and settlements that are committed together or not at all. A transaction may have
 * several units.
 */
export interface CommitUnit {
  readonly publishes: readonly RoutedPublish[];
  readonly settlements: readonly Settlement[];
  /**
   * An id that the transaction writes, so that the outcome can be found if the answer is lost; null
   * without settlements.
   */
  readonly receipt: string | null;
  /**
   * Whether the unit is the broker's own, whose bytes do not count towards the limit of publishers.
   */
  readonly own: boolean;
  /** Bytes that the publishes take in the queue. */
  readonly bytes: number;
  /** What the account counts for them; nothing for the broker's own. */
  readonly queued: QueuedSize;
  readonly records: number;
  /** Gets the offsets in the order of `publishes`. */
  readonly resolve: (published: readonly PublishedRecords[]) => void;
  readonly reject: (error: Error) => void;
  /** Whether the unit was answered. */
  ended: boolean;
}

/** A commit of the broker itself. */
export interface WantedCommit {
  readonly publishes: readonly PublishCommand[];
  readonly settlements: readonly Settlement[];
}

/** The port for commits of the broker itself. */
export interface Commits {
  /**
   * Commits all of it or nothing.
   * @returns the offsets of the records of each publish.
   * @throws Rejection or Fault
   */
  commit(wanted: WantedCommit): Promise<readonly PublishedRecords[]>;
}

/** One empty list for the many units without settlements. */
export const noSettlements: readonly Settlement[] = [];
