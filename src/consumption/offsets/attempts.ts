import { CountedRuns } from './counted-runs.ts';
import { addRun, cutBelow, removeRun } from './runs.ts';

const none: readonly number[] = [];

/**
 * How many attempts of each un-acked record have ended. In memory, neighbouring records with the
 * same count share one entry. In the stored form each record has a pair.
 *
 * The first failed attempt creates the tree of counts, because most of up to 100,000 cursors never
 * see one.
 */
export class Attempts {
  #ended: CountedRuns | null = null;
  /** The records counted since the last `takeNew`, as runs. */
  #new: number[] = [];

  /** @param flat the stored form: [offset, attempts, …], ascending. */
  constructor(flat: readonly number[]) {
    for (let at = 0; at < flat.length; at += 2) {
      (this.#ended ??= new CountedRuns()).append(flat[at]!, flat[at]!, flat[at + 1]!);
    }
  }

  get any(): boolean {
    return this.#ended !== null && !this.#ended.isEmpty;
  }

  /** The number of runs of records with the same count. */
  get runs(): number {
    return this.#ended?.runs ?? 0;
  }

  get anyNew(): boolean {
    return this.#new.length > 0;
  }

  of(offset: number): number {
    return this.#ended?.of(offset) ?? 0;
  }

  count(first: number, last: number): void {
    (this.#ended ??= new CountedRuns()).add(first, last);
    addRun(this.#new, first, last);
  }

  /** Forgets first … last, which are acked. */
  forget(first: number, last: number): void {
    this.#ended?.remove(first, last);
    if (this.#new.length > 0) removeRun(this.#new, first, last);
  }

  /** Forgets every record below `offset`: they are acked. */
  forgetBelow(offset: number): void {
    this.#ended?.remove(0, offset - 1);
    if (this.#new.length > 0) cutBelow(this.#new, offset);
  }

  clear(): void {
    this.#ended = null;
    this.#new = [];
  }

  /** The lowest record of first … last with at least `endedMin` ended attempts, if there is one. */
  lowest(first: number, last: number, endedMin: number): number | undefined {
    return this.#ended?.lowest(first, last, endedMin);
  }

  /** All counts, in the stored form. */
  flat(): readonly number[] {
    return this.any ? this.#flat([0, Infinity]) : none;
  }

  /** The counts of the records counted since the last call, in the stored form. */
  takeNew(): readonly number[] {
    return this.anyNew ? this.#flat(this.#new.splice(0)) : none;
  }

  #flat(runs: readonly number[]): readonly number[] {
    const pairs: number[] = [];
    for (let at = 0; at < runs.length; at += 2) {
      this.#ended?.each(runs[at]!, runs[at + 1]!, (first, last, count) => {
        for (let offset = first; offset <= last; offset++) pairs.push(offset, count);
      });
    }
    return pairs;
  }
}
