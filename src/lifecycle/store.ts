import type { StoredStart } from '../log/store.ts';
import type { DropReason, SegmentToDrop, TopicFacts } from '../retention/decision.ts';
import type { DroppedTable } from '../retention/drop-step.ts';

/**
 * What the cleanup of logs needs of the database. `src/storage` implements the port on PostgreSQL.
 */

/** The folded positions of those that a log still waits for. */
export interface FoldedWatermark {
  readonly partition: number;
  readonly lane: number;
  /**
   * The least committed offset of ACTIVE and PAUSED subscriptions, and never below the log start;
   * null if there are none.
   */
  readonly folded: number | null;
}

/** The facts of a topic, read from the database at one moment. */
export interface StoredFacts extends TopicFacts {
  readonly topicId: number;
  readonly watermarks: readonly FoldedWatermark[];
}

export interface DropPlan {
  readonly facts: StoredFacts;
  /** The oldest segments, without a hole. */
  readonly drop: readonly SegmentToDrop[];
  /** Segments that stay, and are complete for the first time. */
  readonly complete: readonly number[];
}

export interface DroppedSegment extends SegmentToDrop {
  readonly bytes: number;
}

/** A plan that is committed. */
export interface Planned {
  /** The oldest of the plan's segments. There are more if the plan was too large for one call. */
  readonly dropped: readonly DroppedSegment[];
  /** The starts of all logs of the topic afterwards. */
  readonly starts: readonly StoredStart[];
}

/** Watermarks of one lane that moved: an element for each partition, from 0. */
export interface MovedWatermarks {
  readonly facts: StoredFacts;
  readonly lane: number;
  readonly offsets: readonly number[];
}

export interface StoredWatermarks {
  readonly topicId: number;
  readonly lane: number;
  readonly offsets: readonly number[];
}

/** A table that has to go. */
export interface PlannedDrop {
  readonly topicId: number;
  readonly topicName: string;
  /** 0: the table of the topic itself, which goes after those of its segments. */
  readonly segment: number;
}

/** A session of the database that keeps a table from going. */
export interface BlockingSession {
  readonly pid: number;
  /** Null if this role may not see it, or if the session has no transaction. */
  readonly transactionAgeMs: number | null;
  readonly applicationName: string;
  /** For example "idle in transaction"; null if this role may not see it. */
  readonly state: string | null;
}

/** A table as the next step needs it. */
export interface TableFacts extends DroppedTable {
  readonly detachingPid: number | null;
  /** Those that a detach under way waits for, else those with locks on the table or its parent. */
  readonly blockers: readonly BlockingSession[];
}

/** Records of one log that were dropped. Both ends are included. */
interface DroppedRange {
  readonly partition: number;
  readonly lane: number;
  readonly first: number;
  readonly last: number;
}

/** What is kept of a drop for people. */
export interface StoredDrop {
  readonly segment: number;
  readonly reason: DropReason | 'TOPIC_DELETED';
  readonly bytes: number;
  readonly plannedAtMs: number;
  /** Null while the table is there. */
  readonly doneAtMs: number | null;
  readonly ranges: readonly DroppedRange[];
}

/** How many tables can be detached at the same time. */
export const detachesAtOnce = 3;

export interface RetentionStore {
  /** The facts of a topic; null if it is gone. */
  facts(topicId: number): Promise<StoredFacts | null>;
  /**
   * Removes segments from their topic and writes what was dropped, in one fenced transaction. Their
   * tables stay until they are dropped by steps. After an unknown outcome, `decidedStarts` says
   * what happened.
   *
   * CHANGED: the claims, the settings or the segments up to the first that stays are not those of
   * the facts any more. BUSY: other work locks the topic. Nothing is written then.
   */
  plan(plan: DropPlan): Promise<Planned | 'CHANGED' | 'BUSY'>;
  /**
   * The starts of a topic's logs, once no plan of before is undecided; none if the topic is gone.
   */
  decidedStarts(topicId: number): Promise<StoredStart[]>;
  /**
   * Stores watermarks in fenced transactions, except of topics that other work locks or whose
   * claims have changed since the facts.
   *
   * @returns the topics whose watermarks are stored.
   */
  saveWatermarks(moved: readonly MovedWatermarks[]): Promise<readonly number[]>;
  loadWatermarks(): Promise<StoredWatermarks[]>;
  /**
   * The tables that have to go, the oldest plan first. The table of a topic comes only when no
   * other table of the topic is left.
   */
  pendingDrops(): Promise<PlannedDrop[]>;
  table(drop: PlannedDrop): Promise<TableFacts>;
  /**
   * Detaches the table, and waits as long as it takes. At most `detachesAtOnce` run at the same
   * time. If another session has detached or dropped it, or the detach was cancelled, the call ends
   * without an error: the next look at the table tells.
   */
  detach(drop: PlannedDrop): Promise<void>;
  /** Ends the statement of a session that detaches. */
  cancelDetach(pid: number): Promise<void>;
  /** Finishes a detach that was interrupted, or gives up after the limit. */
  finalize(drop: PlannedDrop, lockTimeoutMs: number): Promise<void>;
  /** Drops the table, or gives up after the limit. */
  drop(drop: PlannedDrop, lockTimeoutMs: number): Promise<void>;
  /** Writes that the table is gone, fenced. */
  done(drop: PlannedDrop): Promise<void>;
  /**
   * Where the logs of a topic begin in each of these segments, of the first `logsMax` logs, which
   * may be Infinity. A log that came later begins at 0.
   */
  firstOffsets(
    topicId: number,
    segments: readonly number[],
    logsMax: number,
  ): Promise<ReadonlyMap<number, readonly StoredStart[]>>;
  /** The last drops of topics of that name, the newest first. */
  audit(topicName: string, limit: number): Promise<StoredDrop[]>;
  /** Removes gaps that are passed or of cancelled subscriptions, and old rows of the audit. */
  tidy(): Promise<void>;
  /** Whether the database can store more than it frees at once. */
  hasSpace(): Promise<boolean>;
  freeBallast(): Promise<void>;
  makeBallast(): Promise<void>;
  /** Ends the sessions that may wait for a long time. Detaches under way go on in the server. */
  stop(): void;
}
