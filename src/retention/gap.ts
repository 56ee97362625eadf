/** Why records that a group was owed are gone: the end of an excused time, or a cap. */
export type GapReason = 'RETENTION' | 'MAX_AGE' | 'MAX_BYTES';

/** Records of a log that a group was owed when retention dropped them. Both ends are included. */
export interface LogGap {
  readonly first: number;
  readonly last: number;
  readonly reason: GapReason;
}

/**
 * The gap of a cursor that jumps over `next`. A gap that touches the one before is joined with it.
 * Others take its place, because the group has acked what lies between.
 */
export function joinedGap(before: LogGap | null, next: LogGap): LogGap {
  const touches = before !== null && before.last + 1 >= next.first;
  return touches ? { ...next, first: Math.min(before.first, next.first) } : next;
}

/** Whether the group has acked no record behind the gap, so that a member may not know of it. */
export function isOpen(gap: LogGap, committedOffset: number): boolean {
  return committedOffset <= gap.last + 1;
}
