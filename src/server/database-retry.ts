import { Fault } from '../errors/fault.ts';
import { Trouble } from '../errors/trouble.ts';
import type { Clock } from '../time/clock.ts';
import type { Logger } from '../time/logger.ts';
import { pause } from '../time/pause.ts';

/** The pause between two tries. */
const retryMs = 250;

interface RetryOptions {
  /** The name of the work, for the log. */
  readonly what: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Ends the tries. */
  readonly signal: AbortSignal;
  /** Called with each fault, before the pause. It may throw the fault, which ends the tries. */
  readonly onFault: (fault: Fault) => void;
}

/**
 * Repeats work that a fault of the database ends. A stop ends it without another try.
 * @returns the result of the work, or null after a stop.
 * @throws whatever the work throws and is not a Fault.
 */
export async function untilDatabaseAnswers<T>(options: RetryOptions, work: () => Promise<T>): Promise<T | null> {
  const { clock, signal, onFault } = options;
  const trouble = new Trouble(options);
  const drop = (): void => {
    trouble.drop();
  };
  signal.addEventListener('abort', drop, { once: true });
  while (!signal.aborted) {
    try {
      const result = await work();
      if (!signal.aborted) trouble.worked();
      return result;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      onFault(error);
      if (!signal.aborted) trouble.failed(error);
    }
    await pause(clock, retryMs, signal);
  }
  return null;
}
