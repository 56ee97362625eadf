import { expect, test } from 'vitest';
import { nameViolation } from '../../src/limits/names.ts';

test.each(['a', 'orders', 'Orders.v1_eu-west', '0', '.', '-', 'x'.repeat(200)])('%s is a name', (name) => {
  expect(nameViolation(name)).toBeNull();
});

test.each(['', 'x'.repeat(201), 'a b', 'a/b', 'a\n', '\na', 'ä', 'a\0', 'a,b', '*'])('%j is not a name', (name) => {
  expect(nameViolation(name)).not.toBeNull();
});
