import type { CursorDelta } from './snapshot.ts';

/** One cursor: what a subscription has consumed of one (partition, lane). */
export interface CursorKey {
  readonly subscriptionId: number;
  readonly partition: number;
  readonly lane: number;
}

/** A cursor's key as the key of a Map. */
export function cursorName({ subscriptionId, partition, lane }: CursorKey): string {
  return `${subscriptionId}/${partition}/${lane}`;
}

/** What has changed of one cursor. */
export interface CursorChange {
  readonly key: CursorKey;
  readonly delta: CursorDelta;
}
