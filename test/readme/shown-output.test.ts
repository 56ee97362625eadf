import { describe, expect, it } from 'vitest';
import { isAsShown, jsonValues } from './shown-output.ts';

const matches = (shown: string, actual: unknown): boolean => isAsShown(jsonValues(shown)[0], actual);

describe('output as a document shows it', () => {
  it('values follow one another, and one that is not whole yet is not read', () => {
    expect(jsonValues('{"a": "}"}\n{"b": [1]} {"c"')).toEqual([{ a: '}' }, { b: [1] }]);
  });

  it.each([
    ['a value that differs', '{"a": 1}', { a: 2 }],
    ['a field that is not shown', '{"a": 1}', { a: 1, b: 2 }],
    ['a field that is shown and is not there', '{"a": 1, …}', { b: 2 }],
    ['an element that is not shown', '[1]', [1, 2]],
    ['an element that is shown and is not there', '[1, 2, …]', [1]],
    ['text beside what is left out', '"member-…"', 'other-1'],
    ['text where nothing is left out', '"a.c"', 'abc'],
  ])('%s is found', (_, shown, actual) => {
    expect(matches(shown, actual)).toBe(false);
  });

  it('what is left out may be anything', () => {
    expect(matches('{"id": "member-…", "of": [{"a": 1, …}, …]}', { id: 'member-7', of: [{ a: 1, b: 2 }, 3] })).toBe(
      true,
    );
  });
});
