import { limits } from '../../limits/limits.ts';

/** After a NACK: until when nothing goes out, and what was refused. */
export interface Pause {
  readonly untilMs: number;
  readonly runs: readonly { readonly first: number; readonly last: number }[];
}

/** A later NACK adds to a pause that is on; it does not cut short the delay that an earlier one asked for. */
export function prolonged(before: Pause | null, runs: Pause['runs'], untilMs: number, nowMs: number): Pause {
  const others = before !== null && before.untilMs > nowMs ? before : { untilMs, runs: [] };
  return { untilMs: Math.max(untilMs, others.untilMs), runs: [...others.runs, ...runs] };
}

/** How long a record waits that was refused without a delay. */
export function backoffMs(endedAttempts: number): number {
  const doubled = limits.nackBackoffMsDefault * 2 ** Math.min(30, Math.max(0, endedAttempts - 1));
  return Math.min(limits.nackBackoffMsMax, doubled);
}
