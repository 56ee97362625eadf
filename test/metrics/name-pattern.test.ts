import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NamePattern } from '../../src/metrics/name-pattern.ts';

test('a pattern without a star names one name', () => {
  expect(['orders', 'orders.eu', ''].map((name) => new NamePattern('orders').matches(name))).toEqual([
    true,
    false,
    false,
  ]);
});

test('a star stands for any characters, and for none, like .* of a regular expression', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', '.'), maxLength: 8 });
  const name = fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 });
  fc.assert(
    fc.property(text, name, (pattern, given) => {
      const source = pattern.replaceAll('.', '\\.').replaceAll('*', '.*');
      expect(new NamePattern(pattern).matches(given)).toBe(new RegExp(`^${source}$`).test(given));
    }),
    { numRuns: 2_000 },
  );
});

test('a pattern of thousands of stars is matched at once', () => {
  const pattern = new NamePattern(`${'a*'.repeat(5_000)}b`);
  expect(pattern.matches('a'.repeat(10_000))).toBe(false);
});
