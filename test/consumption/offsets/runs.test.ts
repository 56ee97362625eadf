import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addRun, countOf, coversRun, cutBelow, removeRun, runFrom } from '../../../src/consumption/offsets/runs.ts';
import { property } from '../../coordinator/property.ts';
import { offsetsOf, runsOf } from '../partitioned/oracle.ts';

const run = fc.tuple(fc.nat(60), fc.nat(8)).map(([first, more]) => [first, first + more] as const);

test('a set without some of its runs has exactly the other offsets, as ascending runs that do not touch', () => {
  fc.assert(
    fc.property(fc.array(run, { maxLength: 20 }), fc.array(run, { maxLength: 8 }), (all, others) => {
      const runs: number[] = [];
      for (const [from, to] of all) addRun(runs, from, to);
      const set = new Set(offsetsOf({ runs }));
      for (const [from, to] of others) {
        removeRun(runs, from, to);
        for (const offset of offsetsOf({ runs: [from, to] })) set.delete(offset);
        expect(runs).toEqual(runsOf([...set].sort((a, b) => a - b)));
      }
    }),
    property(1_000),
  );
});

test('a set of runs added in any order has exactly their offsets, as ascending runs that do not touch', () => {
  fc.assert(
    fc.property(fc.array(run, { maxLength: 20 }), run, fc.nat(70), (all, [first, last], cut) => {
      const runs: number[] = [];
      const set = new Set<number>();
      for (const [from, to] of all) {
        const before = set.size;
        for (const offset of offsetsOf({ runs: [from, to] })) set.add(offset);
        expect(addRun(runs, from, to)).toBe(set.size - before);
      }
      const sorted = [...set].sort((a, b) => a - b);
      expect(runs).toEqual(runsOf(sorted));
      expect(countOf(runs)).toBe(set.size);
      expect(coversRun(runs, first, last)).toBe(offsetsOf({ runs: [first, last] }).every((offset) => set.has(offset)));
      const behind = runFrom(runs, cut);
      expect(runs.slice(0, behind).every((offset) => offset < cut)).toBe(true);
      expect(behind === runs.length || runs[behind + 1]! >= cut).toBe(true);
      cutBelow(runs, cut);
      expect(runs).toEqual(runsOf(sorted.filter((offset) => offset >= cut)));
    }),
    property(1_000),
  );
});
