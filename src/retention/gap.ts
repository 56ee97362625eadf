/** Why records that a group was owed are gone: the end of an excused time, or a cap. */
export type GapReason = 'RETENTION' | 'MAX_AGE' | 'MAX_BYTES';

/** Records of a log that a group was owed when retention dropped them. Both ends are included. */
export interface LogGap {
  readonly first: number;
  readonly last: number;
  readonly reason: GapReason;
}

/**
 * The gap of a cursor that jumps over `next`, while the gap before is open. What lies between may
 * be acked, but no member may have got that gap.
 */
export function joinedGap(before: LogGap | null, next: LogGap): LogGap {
  return before === null ? next : { ...next, first: Math.min(before.first, next.first) };
}

/** Whether the group has acked a record behind the gap. */
export function isPassed(gap: LogGap, committedOffset: number): boolean {
  return committedOffset > gap.last + 1;
}
