import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { builtInAssignors } from '../../../src/coordinator/assignors/built-in.ts';
import { nameViolation } from '../../../src/limits/names.ts';
import { property } from '../property.ts';
import { inputs, isComplete, owners } from './cases.ts';

test('an assignor that clients ask for by name and nobody has', () => {
  expect([...builtInAssignors.keys()]).toEqual(['range', 'round_robin', 'sticky', 'cooperative_sticky']);
  expect([...builtInAssignors.keys()].map(nameViolation)).toEqual([null, null, null, null]);
});

describe.each([...builtInAssignors])('%s', (_, assignor) => {
  const any = fc.boolean().chain((equal) => inputs({ members: 8, topics: 4, partitions: 48 }, equal));

  test('gives each partition that somebody reads to one of its readers, and no other', () => {
    fc.assert(
      fc.property(any, (given) => {
        expect(isComplete(given, assignor(given))).toBe(true);
      }),
      property(300),
    );
  });

  test('gives the same answer to the same question, and leaves the question as it is', () => {
    fc.assert(
      fc.property(any, (given) => {
        const asked = structuredClone(given);
        const first = owners(assignor(given));
        expect(given).toEqual(asked);
        expect(owners(assignor(given))).toEqual(first);
        expect(owners(assignor(asked))).toEqual(first);
      }),
      property(200),
    );
  });
});
