import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Credit } from '../../src/credit/credit.ts';

test('with one record allowed, two never are in flight', () => {
  const credit = new Credit(1, 1_000);
  expect(credit.fits(1, 10)).toBe(true);
  credit.take(1, 10);
  expect(credit.fits(1, 10)).toBe(false);
  credit.give(1, 10);
  expect(credit.fits(1, 10)).toBe(true);
});

test('bytes bound as records do', () => {
  const credit = new Credit(10, 100);
  credit.take(2, 60);
  expect(credit.fits(1, 40)).toBe(true);
  expect(credit.fits(1, 41)).toBe(false);
});

test('a record larger than all bytes allowed goes when nothing is in flight, alone', () => {
  const credit = new Credit(10, 100);
  expect(credit.fits(1, 5_000)).toBe(true);
  expect(credit.fits(2, 5_000)).toBe(false);
  credit.take(1, 5_000);
  expect(credit.fits(1, 0)).toBe(false);
  expect(credit.fits(1, 5_000)).toBe(false);
});

test.each<[string, (credit: Credit) => void]>([
  [
    'more records come back than went',
    (credit) => {
      credit.give(3, 20);
    },
  ],
  [
    'more bytes come back than went',
    (credit) => {
      credit.give(1, 21);
    },
  ],
  [
    'bytes stay when no record is out',
    (credit) => {
      credit.give(2, 10);
    },
  ],
  [
    'less than nothing comes back',
    (credit) => {
      credit.give(-1, 0);
    },
  ],
  [
    'less than nothing goes',
    (credit) => {
      credit.take(-1, 0);
    },
  ],
  [
    'what does not fit goes',
    (credit) => {
      credit.take(9, 0);
    },
  ],
])('it is a bug, and found, when %s', (_, wrong) => {
  const credit = new Credit(10, 100);
  credit.take(2, 20);
  expect(() => {
    wrong(credit);
  }).toThrow();
});

test('credit that allows nothing is refused', () => {
  expect(() => new Credit(0, 100)).toThrow('allow something');
});

test('after a reset nothing is in flight', () => {
  const credit = new Credit(10, 100);
  credit.take(2, 20);
  credit.reset();
  expect([credit.records, credit.bytes]).toEqual([0, 0]);
});

test('whatever is taken and given, the bounds hold and the sums are right', () => {
  const pieces = fc.array(
    fc.record({ records: fc.integer({ min: 1, max: 6 }), bytes: fc.nat(60), give: fc.boolean() }),
  );
  fc.assert(
    fc.property(pieces, (todo) => {
      const credit = new Credit(10, 100);
      const out: { records: number; bytes: number }[] = [];
      for (const { records, bytes, give } of todo) {
        const back = give ? out.shift() : undefined;
        if (back !== undefined) credit.give(back.records, back.bytes);
        if (credit.fits(records, bytes)) {
          credit.take(records, bytes);
          out.push({ records, bytes });
        }
        expect(credit.records).toBe(out.reduce((sum, piece) => sum + piece.records, 0));
        expect(credit.bytes).toBe(out.reduce((sum, piece) => sum + piece.bytes, 0));
        expect(credit.records === 1 || (credit.records <= 10 && credit.bytes <= 100)).toBe(true);
      }
    }),
    { seed: Number(process.env['FAST_CHECK_SEED'] ?? 1), numRuns: 300 },
  );
});
