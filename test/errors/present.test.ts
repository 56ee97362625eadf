import { expect, test } from 'vitest';
import { present } from '../../src/errors/present.ts';

test('a value that an invariant guarantees and that is missing is a bug that names the invariant', () => {
  const invariant = 'a topic counts its transactions until they end';
  for (const missing of [undefined, null]) {
    expect(() => present(missing, invariant)).toThrow(
      expect.objectContaining({ name: 'AssertionError', message: invariant }),
    );
  }
});

test('an empty value is there, because only undefined and null mean that there is none', () => {
  expect([0, '', false, Number.NaN].map((value) => present(value, 'there is a value'))).toEqual([0, '', false, NaN]);
});
