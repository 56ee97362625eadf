import { appendCounted, type AttemptRuns } from '../../consumption/offsets/attempt-runs.ts';

/**
 * Ended attempts as the database stores them: `offset, attempts` for one record, and
 * `offset, -records, attempts` for a run of more. Brokers before version 10 of the schema wrote a
 * pair for each record of a run.
 */
export function storedAttempts(runs: AttemptRuns): number[] {
  const stored: number[] = [];
  for (let at = 0; at < runs.length; at += 3) {
    const [first, last, attempts] = [runs[at]!, runs[at + 1]!, runs[at + 2]!];
    if (first === last) stored.push(first, attempts);
    else stored.push(first, first - last - 1, attempts);
  }
  return stored;
}

const none: AttemptRuns = [];

export function parsedAttempts(stored: readonly number[]): AttemptRuns {
  if (stored.length === 0) return none;
  const runs: number[] = [];
  for (let at = 0; at < stored.length;) {
    const [first, next] = [stored[at]!, stored[at + 1]!];
    if (next < 0) appendCounted(runs, first, first - next - 1, stored[at + 2]!);
    else appendCounted(runs, first, first, next);
    at += next < 0 ? 3 : 2;
  }
  return runs;
}
