import { CountedRuns } from './counted-runs.ts';
import { addRun, cutBelow, removeRun } from './runs.ts';

const none: readonly number[] = [];

/**
 * How many attempts have ended of each record that is not acked. Records next to each other that have had as many are one
 * entry in memory, and a pair each where they are stored. Most cursors never see a failed attempt, and there may be 100,000 of
 * them: what counts is made with the first.
 */
export class Attempts {
  #ended: CountedRuns | null = null;
  /** The records that were counted since `takeNew`, as runs. */
  #new: number[] = [];

  /** As they are stored: [offset, attempts, …], ascending. */
  constructor(flat: readonly number[]) {
    for (let at = 0; at < flat.length; at += 2) {
      (this.#ended ??= new CountedRuns()).append(flat[at]!, flat[at]!, flat[at + 1]!);
    }
  }

  get any(): boolean {
    return this.#ended !== null && !this.#ended.isEmpty;
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

  /** first … last are acked. */
  forget(first: number, last: number): void {
    this.#ended?.remove(first, last);
    if (this.#new.length > 0) removeRun(this.#new, first, last);
  }

  /** Everything below `offset` is acked. */
  forgetBelow(offset: number): void {
    this.#ended?.remove(0, offset - 1);
    if (this.#new.length > 0) cutBelow(this.#new, offset);
  }

  clear(): void {
    this.#ended = null;
    this.#new = [];
  }

  /** The lowest record of first … last that has so many or more; undefined if there is none. */
  lowest(first: number, last: number, endedMin: number): number | undefined {
    return this.#ended?.lowest(first, last, endedMin);
  }

  /** As they are stored. */
  flat(): readonly number[] {
    return this.any ? this.#flat([0, Infinity]) : none;
  }

  /** Those that were counted since the last call. */
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
