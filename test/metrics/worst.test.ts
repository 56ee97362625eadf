import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Worst } from '../../src/metrics/worst.ts';

test('the items with the highest scores are kept, the highest first, and the others are counted', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 })), fc.integer({ min: 0, max: 12 }), (scores, max) => {
      const worst = new Worst<number>(max, (score) => score);
      for (const score of scores) worst.offer(score);
      const sorted = [...scores].sort((a, b) => b - a);
      expect(worst.items()).toEqual(sorted.slice(0, max));
      expect(worst.leftOut).toBe(Math.max(0, scores.length - max));
    }),
  );
});
