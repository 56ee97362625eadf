import assert from 'node:assert/strict';

/**
 * The value, which an invariant of the broker guarantees. A missing value is a bug, and its error
 * names the invariant.
 */
export function present<T>(value: T, invariant: string): NonNullable<T> {
  assert(value !== undefined && value !== null, invariant);
  return value;
}
