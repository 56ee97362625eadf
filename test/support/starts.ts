import type { LogStart } from '../../src/delivery/ports/store.ts';

/** Where a subscription begins in partition 0, 1, 2, … of a topic with one lane. */
export function startsAt(offsets: readonly number[]): LogStart[] {
  return offsets.map((offset, partition) => ({ partition, lane: 0, offset }));
}
