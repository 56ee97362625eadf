import { expect, test } from 'vitest';
import { Trouble } from '../../src/errors/trouble.ts';
import { FakeClock } from '../support/fake-clock.ts';

function scene(): { clock: FakeClock; trouble: Trouble; lines: string[] } {
  const clock = new FakeClock();
  const lines: string[] = [];
  const write = (_fields: object, line: string): void => {
    lines.push(line);
  };
  return { clock, lines, trouble: new Trouble({ what: 'appends', clock, log: { info: write, warn: write } }) };
}

function refused(code = '53300', message = 'too many clients'): Error {
  return new Error(`not now: ${message}`, { cause: Object.assign(new Error(message), { code }) });
}

test('a trouble of an hour is one line at its begin, one a minute, and one at its end', async () => {
  const { clock, trouble, lines } = scene();
  for (let second = 0; second < 3_600; second++) {
    trouble.failed(refused());
    await clock.advance(1_000);
  }
  trouble.worked();
  await clock.advance(10_000);
  expect(lines).toHaveLength(1 + 59 + 1);
  expect(lines[0]).toBe('appends: not now: too many clients (SQLSTATE 53300)');
  expect(lines[1]).toBe('appends: still, after 60 s: not now: too many clients (SQLSTATE 53300)');
  expect(lines.at(-1)).toBe('appends: works again, after 3599 s of trouble');
}, 30_000);

test('two causes by turns are a line each, and then each once a minute', async () => {
  const { clock, trouble, lines } = scene();
  for (let second = 0; second < 50; second++) {
    trouble.failed(second % 2 === 0 ? refused() : refused('ECONNREFUSED', `connect ECONNREFUSED 127.0.0.1:${second}`));
    await clock.advance(1_000);
  }
  expect(lines).toEqual([
    'appends: not now: too many clients (SQLSTATE 53300)',
    'appends: not now: connect ECONNREFUSED 127.0.0.1:1 (ECONNREFUSED)',
  ]);
});

test('where one call in two fails the log does not fill, and what fails now is known at any time', async () => {
  const { clock, trouble, lines } = scene();
  for (let second = 0; second < 300; second++) {
    trouble.failed(refused());
    expect(trouble.last).toBe('not now: too many clients');
    trouble.worked();
    expect(trouble.last).toBeNull();
    await clock.advance(second % 5 === 0 ? 4_000 : 500);
  }
  expect(lines.length).toBeLessThan(20);
});

test('what has worked all the time is not logged, and trouble that nobody tries any more has no end', async () => {
  const { clock, trouble, lines } = scene();
  trouble.worked();
  trouble.failed(refused());
  trouble.drop();
  trouble.worked();
  await clock.advance(100_000);
  expect([lines.length, trouble.last, clock.pending]).toEqual([1, null, 0]);
});
