import { DrizzleQueryError } from './drizzle.ts';
import { Fault } from '../errors/fault.ts';

/** SQLSTATE that `millrace.fence` raises. */
export const fencedState = 'MR001';
/** SQLSTATE that `millrace.lock_logs` raises when a batch is meant for another segment than the current one. */
export const segmentMovedState = 'MR002';

/**
 * SQLSTATE classes that say that the database cannot serve at this moment: connection (08), rolled back for others'
 * sake (40), resources (53), locks and states (55, 25), operator (57), system (58), and a recovery or read-only server.
 */
const unavailable = /^(08|25|40|53|55|57|58)/;
const dataRefused = /^2[23]/;
/** The server has ended the connection with these: a COMMIT that was under way may have happened. */
const connectionEnded = /^(08|57P0[1-5])/;

/**
 * The one place where an error of the database or the network is classified. What is neither is a bug and comes back as
 * it is.
 *
 * @param commitSent whether COMMIT was on its way: if the connection broke then, the outcome is not known.
 */
export function faultOf(thrown: unknown, commitSent: boolean): Error {
  const error = unwrapped(thrown);
  if (error instanceof Fault) return error;
  if (!(error instanceof Error)) return new Error(String(error));
  const state = sqlState(error);
  if (state === null) return isNetwork(error) ? lost(error, commitSent) : error;
  if (state === fencedState) return new Fault('FENCED', error.message, error);
  if (dataRefused.test(state))
    return new Fault('DATA_REFUSED', `the database refused the data: ${error.message}`, error);
  if (connectionEnded.test(state)) return lost(error, commitSent);
  return unavailable.test(state) ? notNow(error) : error;
}

/** Whether the connection that the error came from is of no use any more. */
export function endsConnection(thrown: unknown): boolean {
  const error = thrown instanceof Fault ? thrown.cause : unwrapped(thrown);
  const state = sqlState(error);
  return state === null ? error instanceof Error && isNetwork(error) : connectionEnded.test(state);
}

/** Drizzle puts its own error around that of the database. */
function unwrapped(thrown: unknown): unknown {
  return thrown instanceof DrizzleQueryError && thrown.cause !== undefined ? thrown.cause : thrown;
}

/** The SQLSTATE of an error of PostgreSQL; null for any other. */
export function sqlState(thrown: unknown): string | null {
  const error = unwrapped(thrown);
  const code = (error as { code?: unknown } | null)?.code;
  const severity = (error as { severity?: unknown } | null)?.severity;
  return typeof code === 'string' && typeof severity === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : null;
}

/** What pg itself says of a connection. Whole sentences: a bug of ours may speak of connections too. */
const connectionLost =
  /^(Connection terminated|timeout expired|Query read timeout|Client (was closed|has encountered a connection error)|The(re was an error| server does not).* SSL connection)/;

/** Errors of the system have a code like ECONNREFUSED; those that pg makes itself only have a text. */
function isNetwork(error: Error): boolean {
  const code = (error as { code?: unknown }).code;
  if (typeof code === 'string' && /^E[A-Z]/.test(code) && !code.startsWith('ERR_')) return true;
  return connectionLost.test(error.message);
}

function lost(error: Error, commitSent: boolean): Fault {
  if (!commitSent) return notNow(error);
  return new Fault('OUTCOME_UNKNOWN', 'the connection to the database broke while it was committing', error);
}

function notNow(error: Error): Fault {
  return new Fault('DATABASE_UNAVAILABLE', `the database does not serve at the moment: ${error.message}`, error);
}
