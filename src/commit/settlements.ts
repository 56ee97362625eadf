import type { CursorChange } from '../consumption/offsets/cursor-key.ts';

/** What becomes durable together with what is published beside it. */
export type Settlement = AcksSettlement;

/** Records of a cursor are completed. */
interface AcksSettlement {
  readonly type: 'acks';
  readonly records: MovingRecords;
}

/**
 * Records of a cursor whose completion is in a commit. Until the outcome is known they are neither delivered nor acked.
 * Exactly one of `moved` and `stays` is called, once; neither if the outcome is never known here, because this broker has ended.
 */
export interface MovingRecords extends CursorChange {
  /** The completion is durable. The cursor is folded from now on: its rows in the ack log may go. */
  moved(): void;
  /** Nothing was written: the records come again. */
  stays(): void;
}
