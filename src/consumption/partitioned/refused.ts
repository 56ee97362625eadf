import { addRun, cutBelow, fitted, removeRun, runFrom, type OffsetRuns } from '../offsets/runs.ts';

/**
 * The un-acked records that the current holder has refused: by a NACK, a RELEASE, or an expired
 * lease. A cumulative ack means "everything up to here is done", and may be on the wire while a
 * refused record goes out again. The cursor therefore rejects it until an ack names the record.
 *
 * There are never more runs than records that are delivered and not acked.
 */
export class RefusedRecords {
  #runs: number[] = [];

  /** The number of runs. */
  get count(): number {
    return this.#runs.length / 2;
  }

  /** The lowest refused record; Infinity if there is none. */
  get lowest(): number {
    return this.#runs[0] ?? Infinity;
  }

  /** Adds the un-acked records of first … last. */
  add(first: number, last: number, acked: OffsetRuns): void {
    if (last < first) return;
    addRun(this.#runs, first, last);
    for (let at = runFrom(acked, first); at < acked.length && acked[at]! <= last; at += 2) {
      removeRun(this.#runs, acked[at]!, acked[at + 1]!);
    }
    this.#runs = fitted(this.#runs);
  }

  /** Forgets first … last, which are acked. */
  forget(first: number, last: number): void {
    removeRun(this.#runs, first, last);
  }

  /** Forgets every record below `offset`: they are acked. */
  forgetBelow(offset: number): void {
    cutBelow(this.#runs, offset);
  }
}
