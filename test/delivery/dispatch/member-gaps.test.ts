import { expect, test } from 'vitest';
import { MemberGaps } from '../../../src/delivery/dispatch/member-gaps.ts';

class Log {
  gap: object | null = {};
}

const logs = Array.from({ length: 5 }, () => new Log());
const [a, b, c, d, e] = logs as [Log, Log, Log, Log, Log];

test('new gaps are named first, and then those that were named longest ago', () => {
  const gaps = new MemberGaps<Log>();
  for (const log of [a, b, c, d]) gaps.came(log);
  expect(gaps.next(3)).toEqual([a, b, c]);
  expect(gaps.hasNew).toBe(true);
  expect(gaps.next(3)).toEqual([d, a, b]);
  expect(gaps.hasNew).toBe(false);
  gaps.came(b);
  gaps.came(e);
  expect(gaps.next(3)).toEqual([b, e, c]);
});

test('a closed gap, and one of a log that has left, is named no more', () => {
  const gaps = new MemberGaps<Log>();
  for (const log of [a, b, c]) gaps.came(log);
  gaps.next(1);
  b.gap = null;
  gaps.went(a);
  expect([...gaps.open()]).toEqual([c]);
  gaps.went(c);
  expect([gaps.hasNew, gaps.next(3)]).toEqual([false, []]);
});
