import { addRun, coversRun, cutBelow, type OffsetRuns } from './runs.ts';

/** What is durable of a cursor. */
export interface CursorSnapshot {
  /** The next offset to be read: everything below is acked. */
  readonly committedOffset: number;
  /** Acked runs above the committed offset. */
  readonly acked: OffsetRuns;
  /** Ended attempts of un-acked offsets: [offset, attempts, offset, attempts, …], ascending. */
  readonly attempts: readonly number[];
}

/** What changed since the last round; applying one twice, or an older one late, changes nothing. */
export interface CursorDelta {
  readonly committedOffset: number;
  readonly acked: OffsetRuns;
  readonly attempts: readonly number[];
}

/**
 * The snapshot with a delta applied: the higher committed offset, the union of what is acked, the higher counts of attempts. So the
 * order of deltas does not matter, nor how often each is applied.
 */
export function mergeDelta(snapshot: CursorSnapshot, delta: CursorDelta): CursorSnapshot {
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
  return { committedOffset, acked, attempts: flatAttempts(counts, committedOffset, acked) };
}

/** Counts as they are stored: of un-acked offsets only, ascending. */
export function flatAttempts(
  counts: ReadonlyMap<number, number>,
  committedOffset: number,
  acked: OffsetRuns,
): readonly number[] {
  return Array.from(counts)
    .filter(([offset]) => offset >= committedOffset && !coversRun(acked, offset, offset))
    .sort(([a], [b]) => a - b)
    .flat();
}
