import { DrizzleQueryError } from './drizzle.ts';
import { Fault } from '../../errors/fault.ts';

/** SQLSTATE that `millrace.fence` raises. */
const fencedState = 'MR001';
/** SQLSTATE that `millrace.lock_logs` raises when a batch is meant for another segment than the current one. */
export const segmentMovedState = 'MR002';

/** SQLSTATE for a table that is not there. */
export const undefinedTableState = '42P01';

/** What an error of the server means for the call that met it, and for the session that it came over. */
type Meaning = 'fenced' | 'data refused' | 'session ended' | 'session stale' | 'suspect' | 'not now';

/**
 * What SQLSTATEs mean; the first row that fits decides. A state that no row names means "not now": the server has a thousand of them,
 * extensions and triggers add more, and none of them is a reason to end a broker.
 */
const meanings: readonly (readonly [RegExp, Meaning])[] = [
  [new RegExp(`^${fencedState}$`), 'fenced'],
  // The data of one request, which fails alone.
  [/^2[23]/, 'data refused'],
  // The server has ended the connection: a COMMIT that was under way may have happened.
  [/^(08|57P0[1-5]|25P0[34])/, 'session ended'],
  // The session has lost what was prepared on it, or a plan of it fits its tables no more: a new one has neither.
  [/^(26|34|42P05$|0A000$)/, 'session stale'],
  // The right is for the operator to give.
  [/^42501$/, 'not now'],
  // Statements that cannot be right; or somebody has changed the tables.
  [/^42/, 'suspect'],
];

/** A session is over after these, whatever their state. */
const fatal = /^(FATAL|PANIC)$/;

function meaningOf(error: unknown, state: string): Meaning {
  if (fatal.test((error as { severity: string }).severity)) return 'session ended';
  return meanings.find(([states]) => states.test(state))?.[1] ?? 'not now';
}

/**
 * The one place where an error of the database or the network is classified. Every error that the server sends is a Fault; what comes
 * from neither is a bug and comes back as it is.
 *
 * @param commitSent whether COMMIT was on its way: if the connection broke then, the outcome is not known.
 */
export function faultOf(thrown: unknown, commitSent: boolean): Error {
  const error = unwrapped(thrown);
  if (error instanceof Fault) return error;
  if (!(error instanceof Error)) return new Error(String(error));
  const state = sqlState(error);
  if (state === null) return isNetwork(error) ? lost(error, commitSent) : error;
  switch (meaningOf(error, state)) {
    case 'fenced':
      return new Fault('FENCED', error.message, error);
    case 'data refused':
      return new Fault('DATA_REFUSED', `the database refused the data: ${error.message}`, error);
    case 'session ended':
      return lost(error, commitSent);
    case 'suspect':
      return new Fault(
        'DATABASE_UNAVAILABLE',
        `the database refuses a statement, which may be a bug of the broker: ${error.message}`,
        error,
      );
    case 'session stale':
    case 'not now':
      return notNow(error);
  }
}

/** An error while connecting: never a bug, whatever TLS, the password or the network makes of it. */
export function faultOfConnecting(thrown: unknown): Fault {
  const error = faultOf(thrown, false);
  return error instanceof Fault ? error : notNow(error);
}

/** Whether waiting does not help: the server refuses this user or has no such database, or the two do not agree on TLS or password. */
export function isRefusedForGood({ cause }: Fault): boolean {
  if (cause instanceof Fault) return isRefusedForGood(cause);
  const state = sqlState(cause);
  return state === null ? cause instanceof Error && !isNetwork(cause) : /^(28|3D)/.test(state);
}

/** Such a refusal in the words of the server, or in ours, which name the host and the mode of TLS. */
export function refusalOf(fault: Fault): string {
  return sqlState(fault.cause) === null ? fault.message : (fault.cause as Error).message;
}

/** Whether the connection that the error came from is of no use any more. */
export function endsConnection(thrown: unknown): boolean {
  const error = thrown instanceof Fault ? thrown.cause : unwrapped(thrown);
  const state = sqlState(error);
  if (state === null) return error instanceof Error && isNetwork(error);
  return ['session ended', 'session stale'].includes(meaningOf(error, state));
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
  /^(Connection terminated|timeout expired|Query read timeout|Received unexpected |Client (was closed|has encountered a connection error)|The(re was an error| server does not).* SSL connection)/;

/** Errors of the system have a code like ECONNREFUSED; those that pg makes itself only have a text. */
function isNetwork(error: Error): boolean {
  const code = (error as { code?: unknown }).code;
  if (typeof code === 'string' && /^E[A-Z]/.test(code) && !code.startsWith('ERR_')) return true;
  return connectionLost.test(error.message);
}

function lost(error: Error, commitSent: boolean): Fault {
  if (!commitSent) return notNow(error);
  return new Fault(
    'OUTCOME_UNKNOWN',
    `the connection to the database broke while it was committing: ${error.message}`,
    error,
  );
}

function notNow(error: Error): Fault {
  return new Fault('DATABASE_UNAVAILABLE', `the database does not serve at the moment: ${error.message}`, error);
}
