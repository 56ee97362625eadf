import { limits } from '../../limits/limits.ts';

/** The delay after a NACK: until when nothing goes out, and the records that it waits for. */
export interface Pause {
  readonly untilMs: number;
  readonly runs: readonly { readonly first: number; readonly last: number }[];
}

/** Adds a NACK to the pause. A later NACK must not shorten the delay of an earlier one. */
export function prolonged(before: Pause | null, runs: Pause['runs'], untilMs: number, nowMs: number): Pause {
  const others = before !== null && before.untilMs > nowMs ? before : { untilMs, runs: [] };
  return { untilMs: Math.max(untilMs, others.untilMs), runs: [...others.runs, ...runs] };
}

/** The delay of a NACK that names none. It doubles with each ended attempt of its lowest record. */
export function backoffMs(endedAttempts: number): number {
  const doubled = limits.nackBackoffMsDefault * 2 ** Math.min(30, Math.max(0, endedAttempts - 1));
  return Math.min(limits.nackBackoffMsMax, doubled);
}
