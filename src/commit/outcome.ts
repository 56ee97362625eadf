import { Fault } from '../errors/fault.ts';

/** Whether the answer was lost, so that the transaction may be committed. */
export function isUnknown(error: unknown): error is Fault {
  return error instanceof Fault && error.kind === 'OUTCOME_UNKNOWN';
}

/** Whether only the next owner can find out what became of the transaction. */
export function mayBeWritten(error: Error): boolean {
  return error instanceof Fault && (error.kind === 'OUTCOME_UNKNOWN' || error.kind === 'FENCED');
}

export function lostBefore(cause: unknown): Fault {
  return new Fault('DATABASE_UNAVAILABLE', 'the database was lost before the commit: nothing was written', cause);
}

/**
 * Runs work that comes before the transaction. Even if its answer is lost, the transaction was not
 * written.
 * @throws Fault
 */
export async function unwritten<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw isUnknown(error) ? lostBefore(error) : error;
  }
}
