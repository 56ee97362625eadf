import { Fault } from '../errors/fault.ts';

/** The transaction may have been committed: its answer was lost. */
export function isUnknown(error: unknown): error is Fault {
  return error instanceof Fault && error.kind === 'OUTCOME_UNKNOWN';
}

/** Then this broker knows neither that records have moved, nor that they stay. The next owner reads it. */
export function mayBeWritten(error: Error): boolean {
  return error instanceof Fault && (error.kind === 'OUTCOME_UNKNOWN' || error.kind === 'FENCED');
}

export function lostBefore(cause: unknown): Fault {
  return new Fault('DATABASE_UNAVAILABLE', 'the database was lost before the commit: nothing was written', cause);
}

/** Does what comes before the transaction. If its answer is lost, nothing was written all the same. @throws Fault */
export async function unwritten<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw isUnknown(error) ? lostBefore(error) : error;
  }
}
