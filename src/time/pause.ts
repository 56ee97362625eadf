import type { Clock } from './clock.ts';

/** Resolves after so long. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resume) => {
    clock.after(ms, resume);
  });
}
