import fc from 'fast-check';
import { expect, test } from 'vitest';
import { mergeAttempts, unackedAttempts } from '../../../src/consumption/offsets/attempt-runs.ts';
import { Attempts } from '../../../src/consumption/offsets/attempts.ts';
import { begunAt, Cursor } from '../../../src/consumption/partitioned/cursor.ts';
import { property } from '../../coordinator/property.ts';
import { attemptRunsOf, attemptsOf, offsetsOf, runsOf } from '../partitioned/oracle.ts';

const oneByteEach = { keptBytes: 0, bytesOf: (first: number, last: number) => last - first + 1 };

const size = 60;
const run = fc
  .tuple(fc.nat(size - 1), fc.nat(9))
  .map(([first, more]) => [first, Math.min(size - 1, first + more)] as const);
const step = fc.oneof(
  { weight: 5, arbitrary: run.map(([first, last]) => ({ type: 'count' as const, first, last })) },
  { weight: 3, arbitrary: run.map(([first, last]) => ({ type: 'forget' as const, first, last })) },
  { weight: 1, arbitrary: fc.nat(size).map((offset) => ({ type: 'forgetBelow' as const, offset })) },
  { weight: 1, arbitrary: fc.constantFrom({ type: 'take' as const }, { type: 'reload' as const }) },
);

test('after any counts and acks, the attempts are those of a map with an entry for each record', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), run, fc.integer({ min: 1, max: 4 }), (steps, [first, last], min) => {
      let attempts = new Attempts([], size);
      const ended = new Map<number, number>();
      const fresh = new Set<number>();
      const runs = (offsets: Iterable<number>): number[] => attemptRunsOf(offsets, (offset) => ended.get(offset) ?? 0);
      for (const one of steps) {
        if (one.type === 'take') {
          expect(attempts.takeNew()).toEqual(runs(fresh));
          fresh.clear();
        } else if (one.type === 'reload') {
          attempts = new Attempts(attempts.all(), size);
          fresh.clear();
        } else if (one.type === 'forgetBelow') attempts.forgetBelow(one.offset);
        else if (one.type === 'forget') attempts.forget(one.first, one.last);
        else attempts.count([one.first, one.last]);
        for (let offset = 0; offset < size; offset++) {
          const isNamed = 'first' in one && offset >= one.first && offset <= one.last;
          if (one.type === 'count' && isNamed) {
            ended.set(offset, (ended.get(offset) ?? 0) + 1);
            fresh.add(offset);
          } else if ((one.type === 'forget' && isNamed) || (one.type === 'forgetBelow' && offset < one.offset)) {
            ended.delete(offset);
            fresh.delete(offset);
          }
          expect(attempts.of(offset)).toBe(ended.get(offset) ?? 0);
        }
        expect(attempts.all()).toEqual(runs(ended.keys()));
        expect([attempts.any, attempts.anyNew]).toEqual([ended.size > 0, fresh.size > 0]);
        const within = [...ended].filter(([at, count]) => at >= first && at <= last && count >= min);
        const lowest = within.length === 0 ? undefined : Math.min(...within.map(([at]) => at));
        expect(attempts.lowest(first, last, min)).toBe(lowest);
      }
    }),
    property(500),
  );
});

const bounds = { inFlightRecordsMax: 10_000, ackedRunsMax: 1_000, attemptRunsMax: 10_000 };

/** An offset that calls `looked` whenever the code reads its value. */
function watched(offset: number, looked: () => void): number {
  const valueOf = (): number => {
    looked();
    return offset;
  };
  return { valueOf } as unknown as number;
}

/**
 * Delivers and acks records with failed attempts one by one. Neighbours have different counts, so
 * that no two share a run. @returns how often the code read their offsets.
 */
function deliverAndAck(records: number, order: 'forwards' | 'scattered'): number {
  let looks = 0;
  const looked = (): void => {
    looks++;
  };
  const attempts = Array.from({ length: records }, (_, at) => [
    watched(at, looked),
    watched(at, looked),
    1 + (at % 2),
  ]).flat();
  const cursor = new Cursor({ ...begunAt(0), attempts }, bounds);
  for (let offset = 0; offset < records; offset++) {
    const next = cursor.next(records, 0);
    expect(next).toMatchObject({ type: 'deliver', first: offset });
    cursor.deliver(offset, offset, oneByteEach, null);
    expect(cursor.attemptOf(offset)).toBe(2 + (offset % 2));
  }
  for (let at = 0; at < records; at++) {
    const offset = order === 'forwards' ? at : (at * 7_919) % records;
    expect(cursor.ackRuns([offset, offset]).status).toBe('OK');
  }
  expect([cursor.committedOffset, cursor.hasAttempts]).toEqual([records, false]);
  return looks;
}

test.each(['forwards', 'scattered'] as const)(
  '10,000 records with failed attempts, delivered and acked one by one %s, do not block the event loop',
  (order) => {
    const records = 10_000;
    const looks = deliverAndAck(records, order);
    // A record costs the depth of a tree, not the number of others with attempts.
    expect(looks).toBeGreaterThan(records * 10);
    expect(looks).toBeLessThan(records * 400);
  },
);

test('ten times as many records with failed attempts cost about ten times as much, not a hundred times as much', () => {
  for (const order of ['forwards', 'scattered'] as const) {
    expect(deliverAndAck(10_000, order) / deliverAndAck(1_000, order)).toBeLessThan(20);
  }
});

test('neighbouring records with the same number of attempts cost as much as one record', () => {
  const attempts = new Attempts([], 10);
  for (let times = 0; times < 5; times++) attempts.count([0, 2 ** 40]);
  attempts.forget(5_000_000, 5_000_000);
  expect(attempts.of(4_999_999)).toBe(5);
  expect(attempts.of(5_000_000)).toBe(0);
  expect(attempts.lowest(5_000_000, 2 ** 40, 5)).toBe(5_000_001);
});

test('10,000 records that their member NACKs or loses are one run, in memory and in the delta', () => {
  const cursor = new Cursor(begunAt(0), { inFlightRecordsMax: 10_000, ackedRunsMax: 1_000, attemptRunsMax: 1_000 });
  const lose = (): void => {
    for (let first = 0; first < 10_000; first += 100) cursor.deliver(first, first + 99, oneByteEach, null);
    cursor.giveBackAll(true);
  };
  lose();
  expect(cursor.takeDelta()?.attempts).toEqual([0, 9_999, 1]);
  lose();
  expect(cursor.takeDelta()?.attempts).toEqual([0, 9_999, 2]);
  expect(cursor.snapshot().attempts).toEqual([0, 9_999, 2]);
});

test('a NACK of every second record counts no more runs than the bound, and those at the bound go on counting', () => {
  const attempts = new Attempts([], 1_000);
  const everySecond = Array.from({ length: 5_000 }, (_, at) => [at * 2, at * 2]).flat();
  for (let times = 0; times < 3; times++) attempts.count(everySecond);
  expect(attempts.all()).toHaveLength(3 * 1_000);
  expect([attempts.of(0), attempts.of(1_998), attempts.of(2_000)]).toEqual([3, 3, 0]);
  // Runs that join make room, and acks do.
  attempts.count([1, 1]);
  attempts.forget(4, 4);
  attempts.count([5_000, 5_000]);
  expect([attempts.of(1), attempts.of(5_000)]).toEqual([0, 1]);
});

test('an older broker has stored more runs than the bound, and those with the most attempts are kept', () => {
  const runs = [0, 0, 1, 2, 9, 7, 11, 11, 1, 13, 13, 2, 15, 15, 1];
  expect(new Attempts(runs, 3).all()).toEqual([2, 9, 7, 13, 13, 2, 15, 15, 1]);
});

const someRuns = fc
  .array(fc.tuple(fc.nat(size), fc.integer({ min: 1, max: 3 })), { maxLength: 40 })
  .map((pairs) => new Map(pairs));

test('a merge of runs of attempts has the higher number of each un-acked record, whatever runs touch or overlap', () => {
  fc.assert(
    fc.property(someRuns, someRuns, fc.nat(size), fc.uniqueArray(fc.nat(size)), (a, b, committedOffset, acked) => {
      const runs = ([one, other]: Map<number, number>[]): number[] =>
        attemptRunsOf(new Set([...one!.keys(), ...other!.keys()]), (offset) =>
          Math.max(one!.get(offset) ?? 0, other!.get(offset) ?? 0),
        );
      const ackedRuns = runsOf(acked.filter((offset) => offset > committedOffset).sort((x, y) => x - y));
      const merged = mergeAttempts(runs([a, a]), runs([b, b]));
      expect(merged).toEqual(runs([a, b]));
      const left = new Map(
        [...attemptsOf(merged)].filter(
          ([offset]) => offset >= committedOffset && !offsetsOf({ runs: ackedRuns }).includes(offset),
        ),
      );
      expect(unackedAttempts(merged, committedOffset, ackedRuns)).toEqual(runs([left, left]));
    }),
    property(1_000),
  );
});
