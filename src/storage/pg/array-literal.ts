/**
 * PostgreSQL's text form of arrays of integers, both ways. `pg` would walk each array element by element, quote it and
 * parse it as an array of anything: three times as slow as a join and a split.
 */
export function arrayLiteral(numbers: readonly number[]): string {
  return `{${numbers.join(',')}}`;
}

/** A `text[]` whose elements are array literals: rows of arrays of different lengths, which SQL has no type for. */
export function nestedArrayLiteral(arrays: readonly (readonly number[])[]): string {
  return `{${arrays.map((numbers) => `"${arrayLiteral(numbers)}"`).join(',')}}`;
}

export function parseArrayLiteral(literal: string): number[] {
  return literal === '{}' ? [] : literal.slice(1, -1).split(',').map(Number);
}
