/**
 * Writes and reads PostgreSQL's text form of integer arrays. `pg` quotes each element and parses
 * arrays of any type, which takes three times as long as a join and a split.
 */
export function arrayLiteral(numbers: readonly number[]): string {
  return `{${numbers.join(',')}}`;
}

/** A `text[]` of array literals, because SQL has no type for arrays of different lengths. */
export function nestedArrayLiteral(arrays: readonly (readonly number[])[]): string {
  return `{${arrays.map((numbers) => `"${arrayLiteral(numbers)}"`).join(',')}}`;
}

export function parseArrayLiteral(literal: string): number[] {
  return literal === '{}' ? [] : literal.slice(1, -1).split(',').map(Number);
}
