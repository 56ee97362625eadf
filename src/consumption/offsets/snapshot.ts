import { addRun, coversRun, cutBelow, type OffsetRuns } from './runs.ts';

/** What a client has noted with a commit of offsets; the broker does not look inside. */
export interface CommitMetadata {
  /** Rises with each note since the cursor was begun: of two, the later one counts. */
  readonly seq: number;
  readonly text: string;
}

/** What is durable of a cursor. */
export interface CursorSnapshot {
  /** How often the cursor was begun anew: its incarnation. Nothing of an earlier one says anything of a later one. */
  readonly resets: number;
  /** The next offset to be read: everything below is acked. */
  readonly committedOffset: number;
  /** Acked runs above the committed offset. */
  readonly acked: OffsetRuns;
  /** Ended attempts of un-acked offsets: [offset, attempts, offset, attempts, …], ascending. */
  readonly attempts: readonly number[];
  /** null: none was noted. */
  readonly metadata: CommitMetadata | null;
}

/** What changed since the last round; applying one twice, or an older one late, changes nothing. `metadata` is null if it did not change. */
export type CursorDelta = CursorSnapshot;

/** A cursor that begins at the offset, for the first time or anew. */
export function begunAt(committedOffset: number, resets = 0): CursorSnapshot {
  return { resets, committedOffset, acked: [], attempts: [], metadata: null };
}

/**
 * The snapshot with a delta applied: the later incarnation alone if they are of two; else the higher committed offset, the union of
 * what is acked, the higher counts of attempts, the later metadata. So the order of deltas does not matter, nor how often each is applied.
 */
export function mergeDelta(snapshot: CursorSnapshot, delta: CursorDelta): CursorSnapshot {
  if (delta.resets < snapshot.resets) return snapshot;
  if (delta.resets > snapshot.resets) return mergeDelta(begunAt(delta.committedOffset, delta.resets), delta);
  const acked = [...snapshot.acked];
  for (let at = 0; at < delta.acked.length; at += 2) addRun(acked, delta.acked[at]!, delta.acked[at + 1]!);
  let committedOffset = Math.max(snapshot.committedOffset, delta.committedOffset);
  cutBelow(acked, committedOffset);
  if (acked[0] === committedOffset) {
    committedOffset = acked[1]! + 1;
    acked.splice(0, 2);
  }
  const counts = new Map<number, number>();
  for (const attempts of [snapshot.attempts, delta.attempts]) {
    for (let at = 0; at < attempts.length; at += 2) {
      counts.set(attempts[at]!, Math.max(counts.get(attempts[at]!) ?? 0, attempts[at + 1]!));
    }
  }
  return {
    resets: snapshot.resets,
    committedOffset,
    acked,
    attempts: flatAttempts(counts, committedOffset, acked),
    metadata: laterOf(snapshot.metadata, delta.metadata),
  };
}

/** The later one of two notes, either of which may be none. */
export function laterOf(a: CommitMetadata | null, b: CommitMetadata | null): CommitMetadata | null {
  if (a === null || b === null) return a ?? b;
  return b.seq > a.seq ? b : a;
}

const none: readonly number[] = [];

/** Counts as they are stored: of un-acked offsets only, ascending. */
function flatAttempts(
  counts: ReadonlyMap<number, number>,
  committedOffset: number,
  acked: OffsetRuns,
): readonly number[] {
  // Of nearly every cursor: thousands of them may go in one round.
  if (counts.size === 0) return none;
  return Array.from(counts)
    .filter(([offset]) => offset >= committedOffset && !coversRun(acked, offset, offset))
    .sort(([a], [b]) => a - b)
    .flat();
}
