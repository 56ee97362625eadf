/**
 * The present time for statements, as ISO text; null means the clock of the database. A broker
 * always returns null. Tests move the time with it, so that they neither wait nor edit rows.
 */
export type Now = () => string | null;

export const databaseClock: Now = () => null;

/** SQL for the present time; `parameter` is the placeholder of the value that a `Now` returns. */
export function nowOf(parameter: string): string {
  return `coalesce(${parameter}::timestamptz, clock_timestamp())`;
}
