import { limits } from '../../limits/limits.ts';
import { addRuns, fitted, type OffsetRuns } from '../offsets/runs.ts';

/** The delay after a NACK: until when nothing goes out, and the records that it waits for. */
export interface Pause {
  readonly untilMs: number;
  readonly runs: OffsetRuns;
}

/** Adds a NACK to the pause. A later NACK must not shorten the delay of an earlier one. */
export function prolonged(before: Pause | null, runs: OffsetRuns, untilMs: number, nowMs: number): Pause {
  if (before === null || before.untilMs <= nowMs) return { untilMs, runs: fitted([...runs]) };
  const all = [...before.runs];
  addRuns(all, runs);
  return { untilMs: Math.max(untilMs, before.untilMs), runs: fitted(all) };
}

/** The delay of a NACK that names none. It doubles with each ended attempt of its lowest record. */
export function backoffMs(endedAttempts: number): number {
  const doubled = limits.nackBackoffMsDefault * 2 ** Math.min(30, Math.max(0, endedAttempts - 1));
  return Math.min(limits.nackBackoffMsMax, doubled);
}
