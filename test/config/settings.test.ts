import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { configurationDocument } from '../../src/config/help.ts';
import { environmentName, type Setting } from '../../src/config/setting.ts';
import { readSettings, SettingsError, type Settings } from '../../src/config/settings.ts';
import { limitsTable, settingsTable } from '../../src/config/table.ts';
import { limits } from '../../src/limits/limits.ts';

const random = { uuid: () => '01234567-89ab-cdef-0123-456789abcdef', fraction: () => 0.5 };

function settingsOf(argv: string[], env: NodeJS.ProcessEnv = {}): Settings {
  const reading = readSettings(argv, env, random);
  if (reading.kind !== 'start') throw new Error(`printed: ${reading.text}`);
  return reading.settings;
}

function errorOf(argv: string[], env: NodeJS.ProcessEnv = {}): string {
  try {
    readSettings(argv, env, random);
  } catch (cause) {
    if (cause instanceof SettingsError) return cause.message;
    throw cause;
  }
  throw new Error('nothing was wrong');
}

test('with nothing set, it runs on the documented defaults and on loopback only', () => {
  const { brokerId, limits: tuned, ...settings } = settingsOf([]);
  expect(settings).toEqual({
    host: '127.0.0.1',
    grpcPort: 50_051,
    httpPort: 8_080,
    corsOrigins: [],
    database: null,
    dataDir: './data',
    databaseBytesMax: 0,
    logLevel: 'info',
    allowUnsafeDatabase: false,
    writeConnections: 4,
    defaultRetentionMs: 604_800_000,
    assignorModules: [],
  });
  expect(limits).toMatchObject(tuned);
  expect(brokerId).toMatch(/^[A-Za-z0-9.-]+-01234567$/);
});

test('a flag wins over its variable, and an empty variable counts as unset', () => {
  expect(settingsOf(['--grpc-port', '1'], { GRPC_PORT: '2' }).grpcPort).toBe(1);
  expect(settingsOf(['--grpc-port=1']).grpcPort).toBe(1);
  expect(settingsOf([], { GRPC_PORT: '2', HTTP_PORT: '' })).toMatchObject({ grpcPort: 2, httpPort: 8_080 });
});

test('the retention of new topics is in seconds, or for ever, and never shorter than a topic may say', () => {
  expect(settingsOf(['--default-retention', '3600']).defaultRetentionMs).toBe(3_600_000);
  expect(settingsOf([], { DEFAULT_RETENTION: 'forever' }).defaultRetentionMs).toBeNull();
  for (const wrong of ['0', '59', '1h', '-1', '3153600001', 'never'])
    expect(errorOf([`--default-retention=${wrong}`])).toBe(
      `--default-retention: "${wrong}" is not a whole number from 60 to 3153600000, or forever`,
    );
});

test('assignor modules are paths with commas between them', () => {
  expect(settingsOf(['--assignor-modules', 'a.mjs,./b/c.ts']).assignorModules).toEqual(['a.mjs', './b/c.ts']);
});

test('origins of web pages are as browsers send them, with commas between them', () => {
  expect(settingsOf(['--cors-origins', '*']).corsOrigins).toEqual(['*']);
  const origins = ['https://app.example', 'http://localhost:3000', 'http://[::1]:80'];
  expect(settingsOf([], { CORS_ORIGINS: origins.join() }).corsOrigins).toEqual(origins);
});

test('a path is used as it was given, with its blanks', () => {
  expect(settingsOf(['--data-dir', ' x ']).dataDir).toBe(' x ');
  expect(settingsOf([], { DATA_DIR: 'x ' }).dataDir).toBe('x ');
});

test('port 0 asks for a free one, for both edges at once', () => {
  expect(settingsOf(['--grpc-port=0', '--http-port=0'])).toMatchObject({ grpcPort: 0, httpPort: 0 });
});

test.each([...Object.entries(settingsTable), ...Object.entries(limitsTable)])(
  'the default of %s is one that its own check accepts',
  (_, setting: Setting<unknown>) => {
    if (setting.fallback === null) return;
    expect(setting.parse(setting.shownDefault)).toBe(setting.fallback);
  },
);

test.each(Object.entries(limitsTable))('the limit %s can be set by flag and by variable', (name, setting) => {
  const value = setting.fallback + 1;
  const byFlag = settingsOf([`--${setting.flag}`, String(value)]);
  expect(byFlag.limits).toEqual({ ...settingsOf([]).limits, [name]: value });
  expect(settingsOf([], { [environmentName(setting.flag)]: String(value) }).limits).toEqual(byFlag.limits);
});

describe('a wrong setting stops the start with one line that names it', () => {
  test.each<[string[], NodeJS.ProcessEnv, string]>([
    [['--grpc-port', 'abc'], {}, '--grpc-port: "abc" is not a whole number from 0 to 65535'],
    [[], { HTTP_PORT: '65536' }, 'HTTP_PORT: "65536" is not a whole number from 0 to 65535'],
    [['--grpc-port', '-1'], {}, '--grpc-port: "-1" is not a whole number from 0 to 65535'],
    [['--grpc-port', '1e3'], {}, '--grpc-port: "1e3" is not a whole number from 0 to 65535'],
    [['--grpc-port'], {}, '--grpc-port: a value must follow'],
    [['--grpc-port='], {}, '--grpc-port: a value must follow'],
    [['--http-port', '50051'], {}, '--http-port: 50051 is the port of gRPC already'],
    [['--log-level', 'loud'], {}, '--log-level: "loud" is not one of trace, debug, info, warn, error, fatal, silent'],
    [['--grcp-port', '1'], {}, '--grcp-port is not a setting; see --help'],
    [['-x'], {}, '-x is not a setting; see --help'],
    [['serve'], {}, '"serve" is not a setting; see --help'],
    [[], { ALLOW_UNSAFE_DATABASE: 'maybe' }, 'ALLOW_UNSAFE_DATABASE: "maybe" is not true or false'],
    [['--host', 'a b'], {}, '--host: "a b" is not an address or host name'],
    [['--broker-id', 'a/b'], {}, '--broker-id: "a/b" is not 1 to 40 of A-Z a-z 0-9 . _ -'],
    [
      ['--assignor-modules', 'a.mjs,,b.mjs'],
      {},
      '--assignor-modules: "a.mjs,,b.mjs" is not paths with commas between them',
    ],
    [
      [],
      { ASSIGNOR_MODULES: Array.from({ length: 11 }, (_, index) => `${index}.mjs`).join() },
      'ASSIGNOR_MODULES: names 11 modules, more than assignor_modules_max = 10',
    ],
    [
      ['--cors-origins', 'https://app.example/'],
      {},
      '--cors-origins: "https://app.example/" is not an origin as browsers send it, e.g. https://app.example',
    ],
    [['--data-dir', 'a\ufffd'], {}, '--data-dir: "a\ufffd" is not UTF-8'],
    [[], { GRPC_PORT: '81', HTTP_PORT: '81' }, 'HTTP_PORT: 81 is the port of gRPC already'],
    [['--write-connections', '0'], {}, '--write-connections: "0" is not a whole number from 1 to 64'],
    [
      ['--publish-queue-bytes-max', '1'],
      {},
      '--publish-queue-bytes-max: "1" is not a whole number from 16777216 to 4294967296',
    ],
  ])('%j %j', (argv, env, message) => {
    expect(errorOf(argv, env)).toBe(message);
  });
});

test('the error of a wrong database URL does not print its password', () => {
  const message = errorOf([], { DATABASE_URL: 'mysql://me:secret@host/db' });
  expect(message).toBe('DATABASE_URL: is not of the form postgresql://user:password@host:port/database');
  expect(settingsOf(['--database-url', 'postgres://me:secret@host/db']).database?.password).toBe('secret');
});

test('--help names every flag, variable and default; --version the version', () => {
  const reading = readSettings(['--grpc-port', 'abc', '--help'], {}, random);
  const help = reading.kind === 'print' ? reading.text : '';
  for (const setting of [...Object.values(settingsTable), ...Object.values(limitsTable)]) {
    expect(help).toContain(`--${setting.flag}`);
    expect(help).toContain(`(${environmentName(setting.flag)}; default ${setting.shownDefault})`);
  }
  expect(readSettings(['-h'], {}, random)).toEqual(reading);
  expect(readSettings(['--version'], {}, random)).toEqual({
    kind: 'print',
    text: expect.stringMatching(/^millrace \d+\.\d+\.\d+$/) as string,
  });
});

test('docs/configuration.md says what the broker does (npm run generate writes it)', () => {
  const written = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  expect(written).toBe(configurationDocument());
});
