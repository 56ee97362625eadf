import { addRun, cutBelow, removeRun, runFrom, type OffsetRuns } from '../offsets/runs.ts';

/**
 * The records that the present holder has refused and that are not acked yet. A cumulative ack
 * says "everything up to here is done" and may be on the wire while a refused record goes out
 * again, so the cursor rejects it until the record is acked by its own offset.
 *
 * Runs of un-acked records only: never more runs than records that are handed out and not acked.
 */
export class RefusedRecords {
  readonly #runs: number[] = [];

  /** The lowest refused record; Infinity: none. */
  get lowest(): number {
    return this.#runs[0] ?? Infinity;
  }

  /** first … last are refused, except what is acked already. */
  add(first: number, last: number, acked: OffsetRuns): void {
    if (last < first) return;
    addRun(this.#runs, first, last);
    for (let at = runFrom(acked, first); at < acked.length && acked[at]! <= last; at += 2) {
      removeRun(this.#runs, acked[at]!, acked[at + 1]!);
    }
  }

  /** first … last are acked. */
  forget(first: number, last: number): void {
    removeRun(this.#runs, first, last);
  }

  /** Everything below `offset` is acked. */
  forgetBelow(offset: number): void {
    cutBelow(this.#runs, offset);
  }
}
