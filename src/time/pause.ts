import type { Clock } from './clock.ts';

/** Resolves after this time. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resume) => {
    clock.after(ms, resume);
  });
}
