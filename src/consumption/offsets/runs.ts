/**
 * A set of offsets as a flat list of runs: [first, last, first, last, …]. Both ends belong to the
 * run. Runs are ascending and do not touch. Every operation costs by the number of runs, never by
 * the number of offsets.
 */
export type OffsetRuns = readonly number[];

/** The index of the first run that ends at or behind `offset`; `runs.length` if none does. */
export function runFrom(runs: OffsetRuns, offset: number): number {
  let low = 0;
  let high = runs.length / 2;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (runs[middle * 2 + 1]! < offset) low = middle + 1;
    else high = middle;
  }
  return low * 2;
}

/** An array that grows has room for 19 numbers or more. Short ones would mostly be room. */
const fittedMax = 32;

/** The same runs, in an array without room for more if they are few. */
export function fitted(runs: number[]): number[] {
  return runs.length <= fittedMax ? runs.slice() : runs;
}

/** Adds first … last, in place. @returns the number of offsets that were not in the set. */
export function addRun(runs: number[], first: number, last: number): number {
  const at = runFrom(runs, first - 1);
  let begin = first;
  let end = last;
  let known = 0;
  let behind = at;
  for (; behind < runs.length && runs[behind]! <= last + 1; behind += 2) {
    known += overlap(runs[behind]!, runs[behind + 1]!, first, last);
    begin = Math.min(begin, runs[behind]!);
    end = Math.max(end, runs[behind + 1]!);
  }
  runs.splice(at, behind - at, begin, end);
  return last - first + 1 - known;
}

/** Adds all runs of another set, in place. */
export function addRuns(runs: number[], others: OffsetRuns): void {
  for (let at = 0; at < others.length; at += 2) addRun(runs, others[at]!, others[at + 1]!);
}

/** Whether every offset of first … last is in the set. */
export function coversRun(runs: OffsetRuns, first: number, last: number): boolean {
  const at = runFrom(runs, first);
  return at < runs.length && runs[at]! <= first && last <= runs[at + 1]!;
}

/** The number of runs of the set that first … last overlaps or touches. */
export function touchedRuns(runs: OffsetRuns, first: number, last: number): number {
  const from = runFrom(runs, first - 1);
  let behind = from;
  while (behind < runs.length && runs[behind]! <= last + 1) behind += 2;
  return (behind - from) / 2;
}

/** Removes everything below `offset`, in place. @returns the number of offsets removed. */
export function cutBelow(runs: number[], offset: number): number {
  const at = runFrom(runs, offset);
  let removed = 0;
  if (at > 0) removed = countOf(runs.splice(0, at));
  if (runs.length > 0 && runs[0]! < offset) {
    removed += offset - runs[0]!;
    runs[0] = offset;
  }
  return removed;
}

/** Removes first … last, in place. */
export function removeRun(runs: number[], first: number, last: number): void {
  const at = runFrom(runs, first);
  const left: number[] = [];
  let behind = at;
  for (; behind < runs.length && runs[behind]! <= last; behind += 2) {
    if (runs[behind]! < first) left.push(runs[behind]!, first - 1);
    if (runs[behind + 1]! > last) left.push(last + 1, runs[behind + 1]!);
  }
  if (behind > at) runs.splice(at, behind - at, ...left);
}

/** The set of all offsets of the pieces. */
export function joined(pieces: readonly { readonly first: number; readonly last: number }[]): OffsetRuns {
  const runs: number[] = [];
  for (const { first, last } of pieces) addRun(runs, first, last);
  return runs;
}

/** The number of offsets in the set. */
export function countOf(runs: OffsetRuns): number {
  let count = 0;
  for (let at = 0; at < runs.length; at += 2) count += runs[at + 1]! - runs[at]! + 1;
  return count;
}

function overlap(first: number, last: number, otherFirst: number, otherLast: number): number {
  return Math.max(0, Math.min(last, otherLast) - Math.max(first, otherFirst) + 1);
}
