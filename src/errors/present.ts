import { AssertionError } from 'node:assert/strict';

/**
 * The value, which an invariant of the broker guarantees. A missing value is a bug, and its error
 * names the invariant. It is called for each record, so it does without `assert`, which makes an
 * array of its arguments at each call.
 */
export function present<T>(value: T, invariant: string): NonNullable<T> {
  if (value === undefined || value === null) throw missing(invariant);
  return value;
}

function missing(invariant: string): AssertionError {
  return new AssertionError({ message: invariant, stackStartFn: present });
}
