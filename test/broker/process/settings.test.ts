import { describe, expect, test } from 'vitest';
import { environmentName } from '../../../src/config/setting.ts';
import { limitsTable, settingsTable } from '../../../src/config/table.ts';
import { oneLine, Start } from '../start.ts';

describe('a wrong setting stops the start with one line that names it', () => {
  test.concurrent.each([
    [['--grcp-port', '1'], {}, '--grcp-port is not a setting; see --help'],
    [['serve'], {}, '"serve" is not a setting; see --help'],
    [['--grpc-port'], {}, '--grpc-port: a value must follow'],
    [['--grpc-port', '65536'], {}, '--grpc-port: "65536" is not a whole number from 0 to 65535'],
    [['--grpc-port', 'x'], {}, '--grpc-port: "x" is not a whole number from 0 to 65535'],
    [['--grpc-port', '7000', '--http-port', '7000'], {}, '--http-port: 7000 is the port of gRPC already'],
    [[], { HTTP_PORT: '-1' }, 'HTTP_PORT: "-1" is not a whole number from 0 to 65535'],
    [['--database-url', 'mysql://u:secret@h/d'], {}, '--database-url: is not of the form postgresql://'],
    [[], { DATABASE_URL: 'nonsense' }, 'DATABASE_URL: is not of the form postgresql://'],
    [['--log-level', 'loud'], {}, '--log-level: "loud" is not one of trace'],
    [['--host', 'a b'], {}, '--host: "a b" is not an address'],
    [['--write-connections', '0'], {}, '--write-connections: "0" is not a whole number from 1 to 64'],
    [[], { RECORD_BYTES_MAX: '99999999' }, 'RECORD_BYTES_MAX: "99999999" is not a whole number from 1 to 3145728'],
    [[], { ALLOW_UNSAFE_DATABASE: 'perhaps' }, 'ALLOW_UNSAFE_DATABASE: "perhaps" is not true or false'],
  ] as const)('the start with %j and %j ends with one line that names the setting', async (flags, env, says) => {
    const line = await oneLine(new Start(flags, { env: { ...env } }), 64);
    expect(line).toContain(says);
    expect(line).not.toContain('secret');
  });
});

test('--help lists every setting with its variable and default, and exits with 0', async () => {
  const help = new Start(['--help']);
  expect([await help.end(), help.stderr]).toEqual([0, '']);
  for (const { flag, meaning, shownDefault } of [...Object.values(settingsTable), ...Object.values(limitsTable)]) {
    expect(help.stdout).toContain(`--${flag}`);
    expect(help.stdout).toContain(`(${environmentName(flag)}; default ${shownDefault})`);
    expect(help.stdout).toContain(meaning);
  }
  const version = new Start(['--version']);
  expect([await version.end(), version.stdout]).toEqual([0, expect.stringMatching(/^millrace \d+\.\d+\.\d+\n$/)]);
});
