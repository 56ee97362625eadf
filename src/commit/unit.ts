import type { PublishCommand, PublishedRecords } from './publish.ts';
import type { RoutedPublish } from './route.ts';
import type { Settlement } from './settlements.ts';

/** What is committed whole or not at all. Several units may go in one transaction; one is never split. */
export interface CommitUnit {
  readonly publishes: readonly RoutedPublish[];
  readonly settlements: readonly Settlement[];
  /** Written in the transaction, so that a lost answer can be found out; null where nothing is settled. */
  readonly receipt: string | null;
  /** Of the broker itself: its bytes are not among those of the publishers. */
  readonly own: boolean;
  /** What the publishes hold in the queue. */
  readonly bytes: number;
  /** What the account counts for them, with the heap that they take; 0 for the broker's own. */
  readonly heldBytes: number;
  readonly records: number;
  /** In the order of `publishes`. */
  readonly resolve: (published: readonly PublishedRecords[]) => void;
  readonly reject: (error: Error) => void;
  /** It is answered. */
  ended: boolean;
}

/** What the broker itself wants to be committed together. */
export interface WantedCommit {
  readonly publishes: readonly PublishCommand[];
  readonly settlements: readonly Settlement[];
}

/** The port of those that settle. */
export interface Commits {
  /** @returns where the records of each publish went. @throws Rejection or Fault; all of it is written, or nothing. */
  commit(wanted: WantedCommit): Promise<readonly PublishedRecords[]>;
}

/** Nothing is settled by most units. */
export const noSettlements: readonly Settlement[] = [];
