import type { Clock } from './clock.ts';

/**
 * Resolves after this time, or as soon as the signal of a stop is aborted. Leaves no timer behind.
 */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resume) => {
    const end = (): void => {
      cancel();
      signal.removeEventListener('abort', end);
      resume();
    };
    const cancel = clock.after(ms, end);
    signal.addEventListener('abort', end);
  });
}
