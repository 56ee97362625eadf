import type { CursorChange } from '../consumption/offsets/cursor-key.ts';

/** A change that becomes durable in the same transaction as the publishes of its unit. */
export type Settlement = AcksSettlement;

/** Completes records of a cursor. */
interface AcksSettlement {
  readonly type: 'acks';
  readonly records: MovingRecords;
}

/**
 * Records of a cursor whose completion is part of a commit. They are neither delivered nor acked
 * until the outcome is known. Then `moved` or `stays` is called, once. Neither is called if the
 * broker ends before it knows the outcome.
 */
export interface MovingRecords extends CursorChange {
  /** The completion is durable. Later folds must include it, because they may truncate its row. */
  moved(): void;
  /** Nothing was written, so the records are delivered again. */
  stays(): void;
}
