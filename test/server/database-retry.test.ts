import { pino } from 'pino';
import { expect, test } from 'vitest';
import { readSettings } from '../../src/config/settings.ts';
import { Fault } from '../../src/errors/fault.ts';
import { untilDatabaseAnswers } from '../../src/server/database-retry.ts';
import { Server } from '../../src/server/server.ts';
import { systemRandom } from '../../src/time/system.ts';
import { freePort } from '../../bench/support/free-port.ts';
import { FakeClock } from '../support/fake-clock.ts';

const away = new Fault('DATABASE_UNAVAILABLE', 'the database is away');

function retrying(work: () => Promise<string>) {
  const clock = new FakeClock();
  const ending = new AbortController();
  const lines: string[] = [];
  const line = (_: object, text: string): number => lines.push(text);
  const faults: Fault[] = [];
  const result = untilDatabaseAnswers(
    {
      what: 'loading',
      clock,
      log: { info: line, warn: line },
      signal: ending.signal,
      onFault: (fault) => {
        if (fault.kind === 'FENCED') throw fault;
        faults.push(fault);
      },
    },
    work,
  );
  return { clock, ending, lines, faults, result };
}

test('work that waits for the database ends with the stop, without another try and without a timer', async () => {
  let tries = 0;
  const { clock, ending, faults, result } = retrying(() => {
    tries++;
    return Promise.reject(away);
  });
  await clock.advance(500);
  expect([tries, faults.length, clock.pending]).toEqual([3, 3, 1]);
  ending.abort();
  expect(await result).toBeNull();
  expect([tries, clock.pending]).toEqual([3, 0]);
});

test('a stop after the work has succeeded leaves no timer for the line that the trouble is over', async () => {
  let tries = 0;
  const { clock, ending, result } = retrying(() => (tries++ === 0 ? Promise.reject(away) : Promise.resolve('open')));
  await clock.advance(250);
  expect(await result).toBe('open');
  expect(clock.pending).toBe(1);
  ending.abort();
  expect(clock.pending).toBe(0);
});

test('a fault that the caller does not accept ends the tries, and so does a bug', async () => {
  const fenced = new Fault('FENCED', 'another broker owns the database');
  await expect(retrying(() => Promise.reject(fenced)).result).rejects.toBe(fenced);
  const bug = new Error('a bug');
  await expect(retrying(() => Promise.reject(bug)).result).rejects.toBe(bug);
});

test('a server that waits for its database at the start ends that wait with its stop, although no time passes', async () => {
  const clock = new FakeClock();
  const url = `postgresql://u:p@127.0.0.1:${await freePort()}/d`;
  const flags = ['--database-url', url, '--grpc-port', String(await freePort()), '--http-port', '0'];
  const reading = readSettings(flags, {}, systemRandom);
  if (reading.kind !== 'start') throw new Error(reading.text);
  let printed = '';
  const log = pino({}, { write: (line: string) => (printed += line) });
  const server = new Server({ ...reading, log, clock, random: systemRandom, say: () => undefined });
  let hasStarted = false;
  const starting = server.start().then(() => (hasStarted = true));
  while (!printed.includes('waiting for the database')) await clock.settle();
  await server.stop();
  await clock.settle();
  expect([hasStarted, clock.pending]).toEqual([true, 0]);
  await starting;
});
