import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parsedAttempts, storedAttempts } from '../../../src/storage/commit/stored-attempts.ts';
import { property } from '../../coordinator/property.ts';
import { attemptRunsOf } from '../../consumption/partitioned/oracle.ts';

test.each([
  { runs: [], stored: [] },
  { runs: [7, 7, 3], stored: [7, 3] },
  { runs: [0, 9_999, 1], stored: [0, -10_000, 1] },
  { runs: [5, 6, 1, 7, 7, 2, 9, 11, 4], stored: [5, -2, 1, 7, 2, 9, -3, 4] },
])('the runs of attempts $runs are stored as $stored, which a later broker can read', ({ runs, stored }) => {
  expect(storedAttempts(runs)).toEqual(stored);
  expect(parsedAttempts(stored)).toEqual(runs);
});

test.each([
  { stored: [7, 3], runs: [7, 7, 3] },
  { stored: [5, 1, 6, 1, 7, 2, 9, 2], runs: [5, 6, 1, 7, 7, 2, 9, 9, 2] },
  { stored: Array.from({ length: 10_000 }, (_, offset) => [offset, 2]).flat(), runs: [0, 9_999, 2] },
])('the pairs of an older broker, one for each record, are read as runs', ({ stored, runs }) => {
  expect(parsedAttempts(stored)).toEqual(runs);
});

test('any runs of attempts are the same after they were stored and read', () => {
  const pairs = fc.array(fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 3 }))).map((all) => new Map(all));
  fc.assert(
    fc.property(pairs, (ended) => {
      const runs = attemptRunsOf(ended.keys(), (offset) => ended.get(offset) ?? 0);
      expect(parsedAttempts(storedAttempts(runs))).toEqual(runs);
    }),
    property(1_000),
  );
});
