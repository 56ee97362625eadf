import { mergeAttempts, unackedAttempts, type AttemptRuns } from './attempt-runs.ts';
import { addRuns, cutBelow, type OffsetRuns } from './runs.ts';
import { present } from '../../errors/present.ts';

/** The note that a client adds to a commit of offsets. The broker does not interpret it. */
export interface CommitMetadata {
  /** Rises with each note of an incarnation. Of two notes the one with the higher number counts. */
  readonly seq: number;
  readonly text: string;
}

/** The durable state of a cursor. */
export interface CursorSnapshot {
  /** The number of resets: the incarnation. The state of an earlier incarnation does not count. */
  readonly resets: number;
  /** The lowest offset that is not acked. */
  readonly committedOffset: number;
  /** Runs acked ahead of the committed offset. */
  readonly acked: OffsetRuns;
  /** Ended attempts of un-acked records. */
  readonly attempts: AttemptRuns;
  /** null without a note. */
  readonly metadata: CommitMetadata | null;
}

/**
 * The change of a cursor since the last round. A delta that is applied twice or late takes nothing
 * back. `metadata` is null if the note has not changed.
 */
export type CursorDelta = CursorSnapshot;

/** The state of a cursor that begins at the offset, at its creation or after a reset. */
export function begunAt(committedOffset: number, resets = 0): CursorSnapshot {
  return { resets, committedOffset, acked: [], attempts: [], metadata: null };
}

/**
 * Applies a delta. Of two incarnations the later one wins. Within one, the merge takes the union of
 * acks and the maximum of everything else, so deltas may come in any order, and repeatedly.
 */
export function mergeDelta(snapshot: CursorSnapshot, delta: CursorDelta): CursorSnapshot {
  if (delta.resets < snapshot.resets) return snapshot;
  if (delta.resets > snapshot.resets) return mergeDelta(begunAt(delta.committedOffset, delta.resets), delta);
  const acked = [...snapshot.acked];
  addRuns(acked, delta.acked);
  let committedOffset = Math.max(snapshot.committedOffset, delta.committedOffset);
  cutBelow(acked, committedOffset);
  if (acked[0] === committedOffset) {
    committedOffset = present(acked[1], 'a run has an end') + 1;
    acked.splice(0, 2);
  }
  return {
    resets: snapshot.resets,
    committedOffset,
    acked,
    attempts: unackedAttempts(mergeAttempts(snapshot.attempts, delta.attempts), committedOffset, acked),
    metadata: laterOf(snapshot.metadata, delta.metadata),
  };
}

/** About the bytes of a snapshot or a delta in the database, so that writes can be bounded. */
export function snapshotBytes({ acked, attempts, metadata }: CursorSnapshot): number {
  const numbers = 5 + acked.length + attempts.length;
  return numbers * 8 + (metadata === null ? 0 : Buffer.byteLength(metadata.text));
}

/** The later of two notes. null is no note. */
export function laterOf(a: CommitMetadata | null, b: CommitMetadata | null): CommitMetadata | null {
  if (a === null || b === null) return a ?? b;
  return b.seq > a.seq ? b : a;
}
