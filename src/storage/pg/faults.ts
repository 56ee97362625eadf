import { DrizzleQueryError } from './drizzle.ts';
import { Fault } from '../../errors/fault.ts';

/** SQLSTATE that `millrace.fence` raises. */
const fencedState = 'MR001';
/**
 * SQLSTATE that `millrace.lock_logs` raises when a batch names another segment than the current
 * one.
 */
export const segmentMovedState = 'MR002';

export const undefinedTableState = '42P01';

/** The meaning of a server error for the call, and for the session of the call. */
type Meaning =
  'fenced' | 'data refused' | 'session ended' | 'session stale' | 'suspect' | 'disk full' | 'read only' | 'not now';

/**
 * The meaning of each SQLSTATE; the first row that matches decides. A state without a row means
 * "not now". The server has a thousand of them, extensions and triggers add more, and none must end
 * a broker.
 */
const meanings: readonly (readonly [RegExp, Meaning])[] = [
  [new RegExp(`^${fencedState}$`), 'fenced'],
  // The server rejects the data of one request, and only that request fails.
  [/^2[23]/, 'data refused'],
  // The server has ended the connection, so a COMMIT in flight has an unknown outcome.
  [/^(08|57P0[1-5]|25P0[34])/, 'session ended'],
  // The session lost a prepared statement, or a cached plan no longer matches its tables. A new
  // session has no prepared statements and no plans.
  [/^(26|34|42P05$|0A000$)/, 'session stale'],
  [/^53100$/, 'disk full'],
  [/^25006$/, 'read only'],
  // The role lacks a right, which the operator can grant while the broker runs.
  [/^42501$/, 'not now'],
  // The statement is wrong, or an operator has changed the tables.
  [/^42/, 'suspect'],
];

/** The server ends the session after an error of these severities, whatever its SQLSTATE. */
const fatal = /^(FATAL|PANIC)$/;

/** The server names a full disk by this state too, for example when it creates a file. */
const ioError = '58030';
const noSpace = /No space left on device/;

function meaningOf(error: unknown, state: string): Meaning {
  if (fatal.test((error as { severity: string }).severity)) return 'session ended';
  if (state === ioError && noSpace.test((error as Error).message)) return 'disk full';
  return meanings.find(([states]) => states.test(state))?.[1] ?? 'not now';
}

/**
 * Classifies every error of the database and the network, and is the only place that does. Every
 * error that the server sends becomes a Fault. Any other error is a bug, and is returned unchanged.
 *
 * @param commitSent whether COMMIT was sent: if the connection broke after that, the outcome is
 * unknown.
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
    case 'disk full':
      return new Fault('DISK_FULL', `the disk of the database is full: ${error.message}`, error);
    case 'read only':
      return new Fault('DATABASE_READ_ONLY', `the database takes no writes: ${error.message}`, error);
    case 'session stale':
    case 'not now':
      return notNow(error);
  }
}

/** An error while connecting is never a bug: TLS, a password or the network may raise any error. */
export function faultOfConnecting(thrown: unknown): Fault {
  const error = faultOf(thrown, false);
  return error instanceof Fault ? error : notNow(error);
}

/**
 * Whether a retry cannot help: the server rejects the user, the database does not exist, or the
 * client and the server do not agree on TLS or the password.
 */
export function isRefusedForGood({ cause }: Fault): boolean {
  if (cause instanceof Fault) return isRefusedForGood(cause);
  const state = sqlState(cause);
  return state === null ? cause instanceof Error && !isNetwork(cause) : /^(28|3D)/.test(state);
}

/**
 * The message of such a refusal: the server's own, or ours, which names the host and the TLS mode.
 */
export function refusalOf(fault: Fault): string {
  return sqlState(fault.cause) === null ? fault.message : (fault.cause as Error).message;
}

/** Whether the broker must replace the connection that the error came from. */
export function endsConnection(thrown: unknown): boolean {
  const error = thrown instanceof Fault ? thrown.cause : unwrapped(thrown);
  const state = sqlState(error);
  if (state === null) return error instanceof Error && isNetwork(error);
  return ['session ended', 'session stale'].includes(meaningOf(error, state));
}

/** Drizzle wraps the error of the database in its own. */
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

/**
 * The messages of `pg` for a lost connection, in full, because a bug's message may mention
 * connections too.
 */
const connectionLost =
  /^(Connection terminated|timeout expired|Query read timeout|Received unexpected |Client (was closed|has encountered a connection error)|The(re was an error| server does not).* SSL connection)/;

/**
 * System errors have a code such as ECONNREFUSED; the errors that `pg` makes have only a message.
 */
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
