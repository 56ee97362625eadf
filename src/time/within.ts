import type { Clock } from './clock.ts';

/** The result of `within` when the time is up. */
export const timeUp = Symbol('time up');

/** Waits for `work`, at most `ms`. Longer work goes on, and its later error is dropped. */
export async function within<T>(clock: Clock, ms: number, work: Promise<T>): Promise<T | typeof timeUp> {
  const waited = Promise.withResolvers<typeof timeUp>();
  const cancel = clock.after(ms, () => {
    waited.resolve(timeUp);
  });
  try {
    return await Promise.race([work, waited.promise]);
  } finally {
    cancel();
  }
}
