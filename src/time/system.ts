import { randomUUID } from 'node:crypto';
import type { Clock, Random } from './clock.ts';

/** Node fires a timer that is set for longer at once. */
const timerMsMax = 2 ** 31 - 1;

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  nowMs: () => performance.now(),
  after(delayMs, run) {
    let timer: NodeJS.Timeout;
    const arm = (ms: number): void => {
      const rest = ms - timerMsMax;
      timer = rest > 0 ? setTimeout(arm, timerMsMax, rest) : setTimeout(run, ms);
    };
    // Node warns of a time that has passed.
    arm(Math.max(0, delayMs));
    return () => {
      clearTimeout(timer);
    };
  },
  soon: (run) => {
    setImmediate(run);
  },
};

export const systemRandom: Random = {
  uuid: () => randomUUID(),
  fraction: () => Math.random(),
};
