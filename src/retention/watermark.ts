/**
 * The watermarks of a topic, an element for each log: all records below are done, excused, or owed
 * to nobody. They never go back, also if a reset into the past makes records owed again.
 *
 * @param folded the least folded cursor of each log; null without ACTIVE or PAUSED subscriptions,
 * and then the end of the log counts.
 */
export function raised(
  stored: readonly number[],
  folded: readonly (number | null)[],
  ends: readonly number[],
): number[] {
  return ends.map((end, at) => {
    const cursor = folded[at];
    return Math.max(stored[at] ?? 0, cursor === null ? end : (cursor ?? 0));
  });
}
