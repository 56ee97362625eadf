/**
 * The time that statements take for the present, as ISO text; null means the clock of the database.
 * A broker always gives null. Tests travel in time by it, and need not wait or edit rows.
 */
export type Now = () => string | null;

export const databaseClock: Now = () => null;

/** SQL for the present, where `parameter` is what a `Now` gives. */
export function nowOf(parameter: string): string {
  return `coalesce(${parameter}::timestamptz, clock_timestamp())`;
}
