/** Stub of types, to be replaced by the machine. */

/** Runs of offsets, both ends included, ascending, not touching: [first, last, first, last, …]. */
export type OffsetRuns = readonly number[];

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
