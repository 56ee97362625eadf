import type { Clock } from '../../../src/time/clock.ts';
import { systemClock } from '../../../src/time/system.ts';

/** A clock that runs so many times as fast as the machine's, for jobs with long intervals. */
export function fastClock(times: number): Clock {
  const startMs = systemClock.nowMs();
  return {
    wallMs: () => systemClock.wallMs(),
    nowMs: () => startMs + (systemClock.nowMs() - startMs) * times,
    after: (delayMs, run) => systemClock.after(delayMs / times, run),
    soon: (run) => {
      systemClock.soon(run);
    },
  };
}
