import { expect, test } from 'vitest';
import { isPassed, joinedGap, type LogGap } from '../../src/retention/gap.ts';

const gap = (first: number, last: number, reason: LogGap['reason'] = 'RETENTION'): LogGap => ({ first, last, reason });

test.each<[string, LogGap | null, LogGap, LogGap]>([
  ['the first gap is as it is', null, gap(3, 5), gap(3, 5)],
  ['one that begins right behind is joined, with its reason', gap(0, 2), gap(3, 5, 'MAX_AGE'), gap(0, 5, 'MAX_AGE')],
  ['one that begins within is joined', gap(0, 2), gap(1, 5), gap(0, 5)],
  ['one that begins before is joined', gap(2, 4), gap(0, 5), gap(0, 5)],
  ['one behind acked records is joined, because no member may have got the first', gap(0, 2), gap(4, 5), gap(0, 5)],
])('%s', (_what, before, next, joined) => {
  expect(joinedGap(before, next)).toEqual(joined);
});

test('a gap is passed by an ack of a record behind it', () => {
  expect([5, 6, 7].map((committed) => isPassed(gap(3, 5), committed))).toEqual([false, false, true]);
});
