import type { CursorDelta } from './snapshot.ts';

/** Identifies a cursor: the progress of a subscription in one partition and lane. */
export interface CursorKey {
  readonly subscriptionId: number;
  readonly partition: number;
  readonly lane: number;
}

/** The key of a cursor as a string, because a Map compares objects by identity. */
export function cursorName({ subscriptionId, partition, lane }: CursorKey): string {
  return `${subscriptionId}/${partition}/${lane}`;
}

export interface CursorChange {
  readonly key: CursorKey;
  readonly delta: CursorDelta;
}
