import { appendCounted, eachRun, type AttemptRuns } from '../../consumption/offsets/attempt-runs.ts';
import { present } from '../../errors/present.ts';

/**
 * Ended attempts as the database stores them: `offset, attempts` for one record, and
 * `offset, -records, attempts` for a run of more. Brokers before version 10 of the schema wrote a
 * pair for each record of a run.
 */
export function storedAttempts(runs: AttemptRuns): number[] {
  const stored: number[] = [];
  eachRun(runs, (first, last, attempts) => {
    if (first === last) stored.push(first, attempts);
    else stored.push(first, first - last - 1, attempts);
  });
  return stored;
}

const none: AttemptRuns = [];
const complete = 'each run of stored attempts has its number';

export function parsedAttempts(stored: readonly number[]): AttemptRuns {
  if (stored.length === 0) return none;
  const runs: number[] = [];
  const values = stored.values();
  for (const first of values) {
    const next = present(values.next().value, complete);
    if (next < 0) appendCounted(runs, first, first - next - 1, present(values.next().value, complete));
    else appendCounted(runs, first, first, next);
  }
  return runs;
}
