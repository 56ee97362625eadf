import { DrizzleQueryError } from '../../../src/storage/pg/drizzle.ts';
import { DatabaseError } from 'pg';
import { describe, expect, test } from 'vitest';
import { Fault, type FaultKind } from '../../../src/errors/fault.ts';
import {
  endsConnection,
  faultOf,
  faultOfConnecting,
  isRefusedForGood,
  sqlState,
} from '../../../src/storage/pg/faults.ts';

function ofServer(code: string): DatabaseError {
  const error = new DatabaseError(`an error of state ${code}`, 1, 'error');
  error.code = code;
  error.severity = 'ERROR';
  return error;
}

function fatal(code: string): DatabaseError {
  return Object.assign(ofServer(code), { severity: 'FATAL' });
}

function ofSystem(code: string): Error {
  return Object.assign(new Error(`read ${code}`), { code });
}

type Outcome = FaultKind | 'a bug';

function outcome(thrown: unknown, commitSent: boolean): Outcome {
  const error = faultOf(thrown, commitSent);
  return error instanceof Fault ? error.kind : 'a bug';
}

const gone = ['DATABASE_UNAVAILABLE', 'OUTCOME_UNKNOWN', true] as const;
const notNow = ['DATABASE_UNAVAILABLE', 'DATABASE_UNAVAILABLE', false] as const;
const stale = ['DATABASE_UNAVAILABLE', 'DATABASE_UNAVAILABLE', true] as const;
const bug = ['a bug', 'a bug', false] as const;

describe('an error of the database, before and after COMMIT', () => {
  test.each<readonly [string, Error, readonly [Outcome, Outcome, boolean]]>([
    ['another broker has taken over', ofServer('MR001'), ['FENCED', 'FENCED', false]],
    ['a value out of range', ofServer('22003'), ['DATA_REFUSED', 'DATA_REFUSED', false]],
    ['a key that is there already', ofServer('23505'), ['DATA_REFUSED', 'DATA_REFUSED', false]],
    ['a connection that failed', ofServer('08006'), gone],
    ['ended by an administrator', ofServer('57P01'), gone],
    ['a crash of another backend', ofServer('57P02'), gone],
    ['starting up', ofServer('57P03'), gone],
    ['idle for too long', ofServer('57P05'), gone],
    ['a cancelled statement', ofServer('57014'), notNow],
    ['a deadlock', ofServer('40P01'), notNow],
    ['a lock that did not come', ofServer('55P03'), notNow],
    ['a full disk', ofServer('53100'), ['DISK_FULL', 'DISK_FULL', false]],
    [
      'a full disk, found by a new file',
      Object.assign(ofServer('58030'), { message: 'could not extend file: No space left on device' }),
      ['DISK_FULL', 'DISK_FULL', false],
    ],
    ['too many connections', ofServer('53300'), notNow],
    ['an aborted transaction', ofServer('25P02'), notNow],
    ['a read-only server', ofServer('25006'), ['DATABASE_READ_ONLY', 'DATABASE_READ_ONLY', false]],
    ['an error of the disk', ofServer('58030'), notNow],
    ['a table that is not there', ofServer('42P01'), notNow],
    ['a wrong statement', ofServer('42601'), notNow],
    ['a right that is missing', ofServer('42501'), notNow],
    ['transaction ids that are used up', ofServer('54000'), notNow],
    ['a trigger that raises', ofServer('P0001'), notNow],
    ['a state of an extension', ofServer('ZZ123'), notNow],
    ['a prepared statement that is lost', ofServer('26000'), stale],
    ['a prepared statement that is there already', ofServer('42P05'), stale],
    ['a plan that fits its table no more', ofServer('0A000'), stale],
    ['idle in a transaction for too long', ofServer('25P03'), gone],
    ['whatever ends the session', fatal('XX000'), gone],
    ['a refused connection', ofSystem('ECONNREFUSED'), gone],
    ['a connection that was reset', ofSystem('ECONNRESET'), gone],
    ['a host that has no address', ofSystem('ENOTFOUND'), gone],
    ['what pg says of a lost connection', new Error('Connection terminated unexpectedly'), gone],
    ['what pg says of a client that is over', new Error('Client was closed and is not queryable'), gone],
    ['a wrong argument', Object.assign(new TypeError('not a string'), { code: 'ERR_INVALID_ARG_TYPE' }), bug],
    ['an assertion', new Error('there is no write connection 9'), bug],
  ])('%s', (_name, error, [before, after, ends]) => {
    expect([outcome(error, false), outcome(error, true), endsConnection(error)]).toEqual([before, after, ends]);
    const wrapped = new DrizzleQueryError('select 1', [], error);
    expect([outcome(wrapped, false), outcome(wrapped, true), endsConnection(wrapped)]).toEqual([before, after, ends]);
  });
});

test('a fault keeps its first kind, however often it is caught', () => {
  const fault = faultOf(ofServer('57P01'), true);
  expect(faultOf(fault, false)).toBe(fault);
  expect(endsConnection(fault)).toBe(true);
});

test('a bug stays the same error, so that the log has its cause', () => {
  const error = new Error('there is no write connection 9');
  expect(faultOf(error, true)).toBe(error);
  expect(faultOf('thrown as text', true)).toEqual(new Error('thrown as text'));
  expect(sqlState(ofSystem('EPIPE'))).toBeNull();
});

test('no SQLSTATE is a bug, and none leaves the outcome unknown after a clean rollback', () => {
  const letters = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ';
  for (const first of letters) {
    for (const second of letters) {
      for (const rest of ['000', '001', '501', '601', '703', 'P01', 'P02', 'P05', 'U01']) {
        const error = ofServer(first + second + rest);
        expect(faultOf(error, false), error.message).toBeInstanceOf(Fault);
        const unknown = outcome(error, true) === 'OUTCOME_UNKNOWN';
        expect(unknown, error.message).toBe(/^(08|57P0[1-5]|25P0[34])/.test(error.code!));
      }
    }
  }
});

test('an error while connecting is never a bug, and the start finds those that no retry helps', () => {
  const tls = Object.assign(new Error('self-signed certificate'), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
  for (const [error, forGood] of [
    [fatal('28P01'), true],
    [fatal('3D000'), true],
    [tls, true],
    [new Error('SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string'), true],
    [fatal('53300'), false],
    [fatal('57P03'), false],
    [ofSystem('ECONNREFUSED'), false],
    [new Error('timeout expired'), false],
  ] as const) {
    const fault = faultOfConnecting(error);
    expect([fault.kind, isRefusedForGood(fault)], error.message).toEqual(['DATABASE_UNAVAILABLE', forGood]);
  }
});
