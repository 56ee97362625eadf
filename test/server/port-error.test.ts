import { expect, test } from 'vitest';
import { readSettings } from '../../src/config/settings.ts';
import { portError } from '../../src/server/port-error.ts';

function messageOf(argv: string[], env: NodeJS.ProcessEnv, cause: string): string {
  const reading = readSettings(argv, env, { uuid: () => 'u', fraction: () => 0 });
  if (reading.kind !== 'start') throw new Error('it does not start');
  const { nameOf, settings } = reading;
  return portError(nameOf, 'http-port', settings.host, settings.httpPort, new Error(cause)).message;
}

test('a HOST that conda has set, and nobody else, is named as what it is', () => {
  const env = { HOST: 'x86_64-conda-linux-gnu' };
  const message = messageOf([], env, 'getaddrinfo ENOTFOUND x86_64-conda-linux-gnu\nat somewhere');
  expect(message).toBe(
    'HOST: cannot listen on x86_64-conda-linux-gnu: getaddrinfo ENOTFOUND x86_64-conda-linux-gnu; ' +
      'HOST is a variable of the environment, and --host wins over it',
  );
});

test('an address and a port are named as they were given', () => {
  expect(messageOf(['--host', '192.0.2.1'], {}, 'listen EADDRNOTAVAIL')).toMatch(/^--host: cannot listen on 192.0.2.1/);
  expect(messageOf([], { HTTP_PORT: '81' }, 'listen EACCES')).toMatch(/^HTTP_PORT: .*81/);
  expect(messageOf(['--http-port', '81'], { HTTP_PORT: '82' }, 'EADDRINUSE')).toMatch(/^--http-port: port 81/);
  expect(messageOf([], {}, 'listen EADDRINUSE')).toMatch(/^--http-port: port 8080/);
});
