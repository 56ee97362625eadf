import type { Duration, Timestamp } from '@bufbuild/protobuf/wkt';

/**
 * Converts validated proto values to the broker's plain ones; an unset field becomes its default.
 */

/** A required field. Validation has rejected the request if it is unset. */
export function given<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a required field is not set and was not refused');
  return value;
}

export function numberOr(value: number | bigint, whenZero: number): number {
  return Number(value) === 0 ? whenZero : Number(value);
}

export function textOr(value: string, whenEmpty: string): string {
  return value === '' ? whenEmpty : value;
}

export function textOrNull(value: string): string | null {
  return value === '' ? null : value;
}

/** Rounded up to a millisecond, so that a positive wait never becomes zero. */
export function msOr<T>(duration: Duration | undefined, whenUnset: T): number | T {
  if (duration === undefined) return whenUnset;
  return Math.ceil(Number(duration.seconds) * 1_000 + duration.nanos / 1_000_000);
}

/**
 * Rounded up to a microsecond, the resolution of append times. A time beyond the range of a number
 * becomes the last time in it.
 */
export function microseconds(timestamp: Timestamp): number {
  const us = Number(timestamp.seconds) * 1_000_000 + Math.ceil(timestamp.nanos / 1_000);
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, us));
}
