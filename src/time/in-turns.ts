import type { Clock } from './clock.ts';

/**
 * Does work step by step. Between two steps, other work of the process has its turn.
 * @returns what the steps return.
 */
export async function inTurns<T>(clock: Pick<Clock, 'soon'>, steps: Iterator<unknown, T>): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    await new Promise<void>((resolve) => {
      clock.soon(resolve);
    });
  }
}

/** Does all steps without a break. */
export function atOnce<T>(steps: Iterator<unknown, T>): T {
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  return step.value;
}
