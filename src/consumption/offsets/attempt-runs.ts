import { runFrom, type OffsetRuns } from './runs.ts';

/**
 * Numbers of ended attempts as a flat list of runs: [first, last, attempts, …]. Both ends belong to
 * the run. Runs are ascending and do not overlap, and two that touch have different numbers. Every
 * operation costs by the number of runs, never by the number of records.
 */
export type AttemptRuns = readonly number[];

const none: AttemptRuns = [];

/** Adds first … last behind all other records, in place. */
export function appendCounted(runs: number[], first: number, last: number, attempts: number): void {
  const end = runs.length - 2;
  if (end > 0 && runs[end] === first - 1 && runs[end + 1] === attempts) runs[end] = last;
  else runs.push(first, last, attempts);
}

/** Visits the runs, ascending. */
export function eachRun(runs: AttemptRuns, visit: (first: number, last: number, attempts: number) => void): void {
  for (let at = 0; at < runs.length; at += 3) visit(runs[at]!, runs[at + 1]!, runs[at + 2]!);
}

/** The higher of both numbers for each record. */
export function mergeAttempts(a: AttemptRuns, b: AttemptRuns): AttemptRuns {
  if (a.length === 0 || b.length === 0) return a.length === 0 ? b : a;
  const merged: number[] = [];
  const one = new Sweep(a);
  const other = new Sweep(b);
  for (let first = 0; first < Infinity;) {
    one.to(first);
    other.to(first);
    const last = Math.min(one.last, other.last);
    const attempts = Math.max(one.attempts, other.attempts);
    if (attempts > 0) appendCounted(merged, first, last, attempts);
    first = last + 1;
  }
  return merged;
}

/** The numbers of un-acked records. `acked` are the runs acked ahead of the committed offset. */
export function unackedAttempts(runs: AttemptRuns, committedOffset: number, acked: OffsetRuns): AttemptRuns {
  // Nearly every cursor ends here, and a round may have thousands of cursors.
  if (runs.length === 0) return none;
  const left: number[] = [];
  for (let run = 0; run < runs.length; run += 3) {
    const [last, attempts] = [runs[run + 1]!, runs[run + 2]!];
    let first = Math.max(runs[run]!, committedOffset);
    for (let at = runFrom(acked, first); at < acked.length && acked[at]! <= last; at += 2) {
      if (first < acked[at]!) left.push(first, acked[at]! - 1, attempts);
      first = acked[at + 1]! + 1;
    }
    if (first <= last) left.push(first, last, attempts);
  }
  return left;
}

/**
 * At most `runsMax` of the runs: those with the most attempts, and of these the highest. Only a
 * cursor of an older broker has more.
 */
export function capped(runs: AttemptRuns, runsMax: number): AttemptRuns {
  const excess = runs.length / 3 - runsMax;
  if (excess <= 0) return runs;
  const starts = Array.from({ length: runs.length / 3 }, (_, run) => run * 3);
  const dropped = new Set(starts.sort((a, b) => runs[a + 2]! - runs[b + 2]! || a - b).slice(0, excess));
  return runs.filter((_, at) => !dropped.has(at - (at % 3)));
}

/** The number of attempts at an offset that only rises, and up to which offset it is the same. */
class Sweep {
  readonly #runs: AttemptRuns;
  #at = 0;
  last = Infinity;
  attempts = 0;

  constructor(runs: AttemptRuns) {
    this.#runs = runs;
  }

  to(offset: number): void {
    while (this.#at < this.#runs.length && this.#runs[this.#at + 1]! < offset) this.#at += 3;
    const first = this.#runs[this.#at] ?? Infinity;
    this.attempts = first <= offset ? this.#runs[this.#at + 2]! : 0;
    this.last = first <= offset ? this.#runs[this.#at + 1]! : first - 1;
  }
}
