import fc from 'fast-check';
import { expect, test } from 'vitest';
import { raised } from '../../src/retention/watermark.ts';

test('a watermark is the least folded cursor, or the end of a log that nobody subscribes to', () => {
  expect(raised([0, 0], [7, 3], [9, 9])).toEqual([7, 3]);
  expect(raised([0, 0], [null, null], [9, 4])).toEqual([9, 4]);
});

test('a log that the facts do not know yet keeps its watermark', () => {
  expect(raised([5], [7], [9, 4])).toEqual([7, 0]);
  expect(raised([5, 2], [], [9, 4])).toEqual([5, 2]);
});

test('whatever the cursors say, a watermark never goes back', () => {
  const log = fc.record({ stored: fc.nat(9), folded: fc.option(fc.nat(9)), end: fc.nat(9) });
  fc.assert(
    fc.property(fc.array(log), (logs) => {
      const stored = logs.map((one) => one.stored);
      const after = raised(
        stored,
        logs.map(({ folded }) => folded),
        logs.map(({ end }) => end),
      );
      for (const [at, offset] of after.entries()) expect(offset).toBeGreaterThanOrEqual(stored[at]!);
    }),
  );
});
