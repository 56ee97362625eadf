import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { WriteTrouble } from '../../src/errors/write-trouble.ts';
import { FreeSpace } from '../../src/lifecycle/free-space.ts';
import { FakeClock } from '../support/fake-clock.ts';

const lookMs = 5_000;
const full = new Fault('DISK_FULL', 'could not extend file');
const readOnly = new Fault('DATABASE_READ_ONLY', 'cannot execute INSERT in a read-only transaction');

let clock: FakeClock;
let writes: WriteTrouble;
let space: FreeSpace;
let calls: string[];
let said: string[];
/** Replaced by tests. */
let hasSpace: () => boolean;
beforeEach(async () => {
  clock = new FakeClock();
  writes = new WriteTrouble(() => clock.wallMs());
  calls = [];
  said = [];
  hasSpace = () => true;
  const call = <T>(name: string, answer: () => T): Promise<T> => {
    calls.push(name);
    return Promise.resolve().then(answer);
  };
  const say = (_: object, message: string): void => void said.push(message);
  space = new FreeSpace({
    store: {
      hasSpace: () => call('hasSpace', hasSpace),
      freeBallast: () => call('freeBallast', () => undefined),
      makeBallast: () => call('makeBallast', () => undefined),
    },
    writes,
    clock,
    log: { info: say, warn: say },
    onFull: () => void calls.push('onFull'),
  });
  space.start();
  await clock.advance(1);
});
afterEach(() => space.stop());

test('a ballast is made once at the start, and an idle broker asks for nothing', async () => {
  await clock.advance(100 * lookMs);
  expect(calls).toEqual(['makeBallast']);
});

test('on a full disk the ballast is freed at once, caps are looked at, and publishes are refused until a probe writes', async () => {
  hasSpace = () => false;
  writes.noticed(full);
  expect(() => writes.refuse()).toThrow('full');
  expect(writes.sinceMs).toBe(clock.wallMs());
  await clock.advance(1);
  expect(calls.slice(1)).toEqual(['freeBallast', 'onFull', 'hasSpace']);
  await clock.advance(2 * lookMs);
  expect(calls.slice(4)).toEqual(['onFull', 'hasSpace', 'onFull', 'hasSpace']);
  hasSpace = () => true;
  await clock.advance(lookMs);
  expect(calls.slice(8)).toEqual(['onFull', 'hasSpace', 'makeBallast']);
  expect(() => writes.refuse()).not.toThrow();
  expect(said).toEqual([
    'the disk of the database is full: publishes are refused until it takes writes again',
    'the database takes writes again',
  ]);
});

test('a read-only database keeps its ballast, and is served again once a probe writes', async () => {
  hasSpace = () => {
    throw readOnly;
  };
  writes.noticed(readOnly);
  await clock.advance(2 * lookMs);
  expect([writes.kind, calls.includes('freeBallast'), calls.includes('onFull')]).toEqual([
    'DATABASE_READ_ONLY',
    false,
    false,
  ]);
  hasSpace = () => true;
  await clock.advance(lookMs);
  expect(writes.kind).toBeNull();
});

test('a probe that finds no database decides nothing', async () => {
  hasSpace = () => {
    throw new Fault('DATABASE_UNAVAILABLE', 'down');
  };
  writes.noticed(full);
  await clock.advance(3 * lookMs);
  expect(writes.kind).toBe('DISK_FULL');
});

test('other faults of writes do not count as a full disk', () => {
  writes.noticed(new Fault('DATABASE_UNAVAILABLE', 'down'));
  writes.noticed(new Error('a bug'));
  expect(writes.kind).toBeNull();
});
