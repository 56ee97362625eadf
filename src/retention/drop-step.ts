/**
 * The steps by which the table of a dropped segment goes. Nothing is remembered between two steps
 * but times: each step begins with a look at the database's catalog. A step that failed, or that
 * another session has done, is therefore repeated or skipped by the next look. SPEC.md has the
 * table.
 */

/** A table as the catalog and the locks of the database show it. */
export interface DroppedTable {
  readonly exists: boolean;
  /** PENDING: a detach was interrupted. */
  readonly attached: 'YES' | 'PENDING' | 'NO';
  /** Sessions with a lock on the table itself, or on its parent, without the one that detaches. */
  readonly tableLockers: number;
  readonly parentLockers: number;
  /** The session that detaches the table, if there is one. */
  readonly detaching: DetachingSession | null;
}

export interface DetachingSession {
  /** The table whose lock it waits for; null if it waits for none. */
  readonly waitsFor: 'PARENT' | 'TABLE' | null;
  readonly waitedMs: number;
}

/** What the other work of the broker asks of a drop. */
export interface DropPressure {
  /** The topic needs its next segment, whose attach a detach that waits for its table blocks. */
  readonly wantsSegment: boolean;
  /** Another topic waits for a session that detaches. */
  readonly wantsSession: boolean;
  /** For how long a pending table could not be dropped. */
  readonly missedMs: number;
}

export type DropStep =
  | { readonly type: 'DONE' | 'WAIT' | 'DETACH' | 'CANCEL' }
  | { readonly type: 'DROP' | 'FINALIZE'; readonly lockTimeoutMs: number };

/** How long a detach may wait for its own table while the topic needs a segment. */
const tableWaitMsMax = 10_000;
/** How long a detach may keep its session while other topics wait for one. */
const sessionMsMax = 60_000;
/** How long a pending table is tried to be dropped before its detach is finished. */
const pendingMsMax = 300_000;
/** A drop of a pending table locks the parent, which a new session's first append reads. */
const pendingLockMs = 200;
const detachedLockMs = 2_000;
const finalizeLockMs = 10_000;

/** The next step for the table. */
export function nextStep(table: DroppedTable, pressure: DropPressure): DropStep {
  if (!table.exists) return { type: 'DONE' };
  if (table.detaching !== null) return { type: shouldCancel(table.detaching, pressure) ? 'CANCEL' : 'WAIT' };
  switch (table.attached) {
    case 'YES':
      // A detach that waits for its own table holds a lock that blocks the attach of the next one.
      return { type: table.tableLockers > 0 ? 'WAIT' : 'DETACH' };
    case 'PENDING':
      return pendingStep(table, pressure);
    case 'NO':
      return { type: 'DROP', lockTimeoutMs: detachedLockMs };
  }
}

/** A FINALIZE waits for every older snapshot of the database, and blocks attaches meanwhile. */
function pendingStep({ tableLockers, parentLockers }: DroppedTable, { missedMs }: DropPressure): DropStep {
  if (tableLockers + parentLockers === 0) return { type: 'DROP', lockTimeoutMs: pendingLockMs };
  return missedMs < pendingMsMax ? { type: 'WAIT' } : { type: 'FINALIZE', lockTimeoutMs: finalizeLockMs };
}

function shouldCancel({ waitsFor, waitedMs }: DetachingSession, pressure: DropPressure): boolean {
  if (waitsFor === 'TABLE' && pressure.wantsSegment && waitedMs >= tableWaitMsMax) return true;
  return waitsFor !== null && pressure.wantsSession && waitedMs >= sessionMsMax;
}
