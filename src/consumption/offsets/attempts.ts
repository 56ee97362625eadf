import { appendCounted, capped, type AttemptRuns } from './attempt-runs.ts';
import { CountedRuns } from './counted-runs.ts';
import { addRun, cutBelow, removeRun, type OffsetRuns } from './runs.ts';

const none: AttemptRuns = [];

/**
 * How many attempts of each un-acked record have ended. Neighbouring records with the same number
 * share one run. An attempt that would need more runs than the bound stays uncounted.
 *
 * The first failed attempt creates the tree of counts, because most of up to 100,000 cursors never
 * see one.
 */
export class Attempts {
  #ended: CountedRuns | null = null;
  /** The records counted since the last `takeNew`, as runs. */
  #new: number[] = [];
  readonly #runsMax: number;

  constructor(stored: AttemptRuns, runsMax: number) {
    this.#runsMax = runsMax;
    const runs = capped(stored, runsMax);
    for (let at = 0; at < runs.length; at += 3) {
      (this.#ended ??= new CountedRuns()).append(runs[at]!, runs[at + 1]!, runs[at + 2]!);
    }
  }

  get any(): boolean {
    return this.#ended !== null && !this.#ended.isEmpty;
  }

  /** The number of runs of records with the same count. */
  get runs(): number {
    return this.#ended?.runs ?? 0;
  }

  /** How many more runs there are at most after `count` of the runs. */
  growthOf(runs: OffsetRuns): number {
    let growth = 0;
    for (let at = 0; at < runs.length; at += 2) growth += this.#growthOfRun(runs[at]!, runs[at + 1]!);
    return Math.max(0, Math.min(growth, this.#runsMax - this.runs));
  }

  /** How many more runs there are at most when the runs are forgotten: one may leave two. */
  splitsOf(runs: OffsetRuns): number {
    if (!this.any) return 0;
    let splits = 0;
    for (let at = 0; at < runs.length; at += 2) {
      if (this.#splitsAt(runs[at]!) && this.#splitsAt(runs[at + 1]! + 1)) splits++;
    }
    return splits;
  }

  get anyNew(): boolean {
    return this.#new.length > 0;
  }

  of(offset: number): number {
    return this.#ended?.of(offset) ?? 0;
  }

  /** Counts an ended attempt of each record of the runs, except of runs that have no room. */
  count(runs: OffsetRuns): void {
    for (let at = 0; at < runs.length; at += 2) {
      const [first, last] = [runs[at]!, runs[at + 1]!];
      if ((this.#ended ??= new CountedRuns()).add(first, last, this.#runsMax)) addRun(this.#new, first, last);
    }
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

  all(): AttemptRuns {
    return this.any ? this.#within([0, Infinity]) : none;
  }

  /** The attempts of the records counted since the last call. */
  takeNew(): AttemptRuns {
    if (!this.anyNew) return none;
    const runs = this.#new;
    // A cursor would keep the room of an array that is emptied.
    this.#new = [];
    return this.#within(runs);
  }

  /** Each gap between known runs becomes one, and a run beyond an end is split there. */
  #growthOfRun(first: number, last: number): number {
    let growth = Number(this.#splitsAt(first)) + Number(this.#splitsAt(last + 1));
    let next = first;
    this.#ended?.each(first, last, (from, to) => {
      if (from > next) growth++;
      next = to + 1;
    });
    return next <= last ? growth + 1 : growth;
  }

  /** Whether one run has both the offset and the one before it. */
  #splitsAt(offset: number): boolean {
    const count = this.of(offset);
    return count > 0 && this.of(offset - 1) === count;
  }

  #within(runs: OffsetRuns): AttemptRuns {
    const found: number[] = [];
    for (let at = 0; at < runs.length; at += 2) {
      this.#ended?.each(runs[at]!, runs[at + 1]!, (first, last, count) => {
        appendCounted(found, first, last, count);
      });
    }
    return found;
  }
}
