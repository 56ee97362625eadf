import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Attempts } from '../../../src/consumption/offsets/attempts.ts';
import { begunAt, Cursor } from '../../../src/consumption/partitioned/cursor.ts';
import { property } from '../../coordinator/property.ts';

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
      let attempts = new Attempts([]);
      const ended = new Map<number, number>();
      const fresh = new Set<number>();
      const flat = (offsets: Iterable<number>): number[] =>
        [...offsets].sort((a, b) => a - b).flatMap((offset) => [offset, ended.get(offset) ?? 0]);
      for (const one of steps) {
        if (one.type === 'take') {
          expect(attempts.takeNew()).toEqual(flat(fresh));
          fresh.clear();
        } else if (one.type === 'reload') {
          attempts = new Attempts(attempts.flat());
          fresh.clear();
        } else if (one.type === 'forgetBelow') attempts.forgetBelow(one.offset);
        else attempts[one.type](one.first, one.last);
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
        expect(attempts.flat()).toEqual(flat(ended.keys()));
        expect([attempts.any, attempts.anyNew]).toEqual([ended.size > 0, fresh.size > 0]);
        const within = [...ended].filter(([at, count]) => at >= first && at <= last && count >= min);
        const lowest = within.length === 0 ? undefined : Math.min(...within.map(([at]) => at));
        expect(attempts.lowest(first, last, min)).toBe(lowest);
      }
    }),
    property(500),
  );
});

const bounds = { inFlightRecordsMax: 10_000, ackedRunsMax: 1_000 };

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
  const attempts = Array.from({ length: records }, (_, at) => [watched(at, looked), 1 + (at % 2)]).flat();
  const cursor = new Cursor({ ...begunAt(0), attempts }, bounds);
  for (let offset = 0; offset < records; offset++) {
    const next = cursor.next(records, 0);
    expect(next).toMatchObject({ type: 'deliver', first: offset });
    cursor.deliver(offset, offset, () => 1, null);
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
  const attempts = new Attempts([]);
  for (let times = 0; times < 5; times++) attempts.count(0, 2 ** 40);
  attempts.forget(5_000_000, 5_000_000);
  expect(attempts.of(4_999_999)).toBe(5);
  expect(attempts.of(5_000_000)).toBe(0);
  expect(attempts.lowest(5_000_000, 2 ** 40, 5)).toBe(5_000_001);
});
