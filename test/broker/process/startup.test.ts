import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startBroker } from '../../../bench/support/broker-process.ts';
import { freePort } from '../../../bench/support/free-port.ts';
import { CuttingProxy } from '../../support/cutting-proxy.ts';
import { createTestDatabase } from '../../support/database.ts';
import { answerOf, flagsOf, oneLine, Start, Starts } from '../start.ts';

const starts = new Starts();
const flagsFor = (url = starts.database.url): Promise<string[]> => flagsOf(url);
const start = (flags: readonly string[]): Start => starts.begin(flags);

describe('a port that another process uses', () => {
  let taken: Server;
  let port = '';
  beforeAll(async () => {
    taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    port = String((taken.address() as { port: number }).port);
  });
  afterAll(() => {
    taken.close();
  });

  test.each(['--grpc-port', '--http-port'])('a port conflict of %s is named with its setting', async (flag) => {
    const line = await oneLine(start([...(await flagsFor()), flag, port]), 1);
    expect(line).toContain(flag);
    expect(line).toContain(port);
    expect(line).toMatch(/in use/);
  });

  test('an address that this machine does not have is named with its setting', async () => {
    const line = await oneLine(start([...(await flagsFor()), '--host', '192.0.2.1']), 1);
    expect(line).toContain('--host');
    expect(line).toContain('192.0.2.1');
  });
});

test('an address from the environment alone is named by its variable', async () => {
  const begun = new Start(await flagsFor(), { env: { HOST: '192.0.2.1' } });
  expect(await oneLine(begun, 1)).toMatch(/^HOST: cannot listen on 192\.0\.2\.1.*--host wins over it$/);
});

describe('an unusable database ends the start with its reason', () => {
  function changed(change: (url: URL) => void): string {
    const url = new URL(starts.database.url);
    change(url);
    return url.href;
  }

  test('a wrong password ends the start with its reason', async () => {
    const url = changed((given) => (given.password = 'wrong-one'));
    const line = await oneLine(start(await flagsFor(url)), 1);
    expect(line).toMatch(/password authentication failed/);
    expect(line).not.toContain('wrong-one');
  });

  test('a database that does not exist ends the start with its reason', async () => {
    const url = changed((given) => (given.pathname = '/no_such_database'));
    expect(await oneLine(start(await flagsFor(url)), 1)).toMatch(/"no_such_database" does not exist/);
  });

  test('a role that may not create or use the schema ends the start with its reason', async () => {
    const empty = await createTestDatabase();
    const admin = new Client({ connectionString: starts.database.url });
    await admin.connect();
    const role = `plain_${starts.database.name}`;
    await admin.query(`CREATE ROLE ${role} LOGIN PASSWORD 'plain'; CREATE SCHEMA IF NOT EXISTS millrace`);
    try {
      for (const [name, says] of [
        [empty.name, /GRANT CREATE ON DATABASE/],
        [starts.database.name, /connect as the role that made it/],
      ] as const) {
        const url = changed(
          (given) => ([given.username, given.password, given.pathname] = [role, 'plain', `/${name}`]),
        );
        expect(await oneLine(start(await flagsFor(url)), 1)).toMatch(says);
      }
    } finally {
      await admin.query(`DROP ROLE ${role}`);
      await admin.end();
      await empty.drop();
    }
  });

  test('a database whose encoding cannot hold every text ends the start with its reason', async () => {
    const admin = new Client({ connectionString: starts.database.url });
    await admin.connect();
    const name = `latin_${starts.database.name}`;
    await admin.query(`CREATE DATABASE ${name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
    try {
      const url = changed((given) => (given.pathname = `/${name}`));
      expect(await oneLine(start(await flagsFor(url)), 1)).toMatch(/is LATIN1, and only UTF8/);
    } finally {
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    }
  });

  test('a schema that is newer than the broker ends the start with its reason', async () => {
    const own = await createTestDatabase();
    try {
      const broker = await startBroker({ databaseUrl: own.url });
      await broker.stop();
      const admin = new Client({ connectionString: own.url });
      await admin.connect();
      await admin.query(
        "INSERT INTO millrace.migrations SELECT max(version) + 1, 'later', now() FROM millrace.migrations",
      );
      await admin.end();
      expect(await oneLine(start(await flagsFor(own.url)), 1)).toMatch(/newer/);
    } finally {
      await own.drop();
    }
  });
});

test('a broker with an unreachable database stays up, reports why it does not serve, and serves when the database comes', async () => {
  const port = await freePort();
  const url = new URL(starts.database.url);
  url.port = String(port);
  const flags = await flagsFor(url.href);
  const http = flags[3]!;
  const begun = start(flags);
  await begun.until('an answer', async () => (await answerOf(http, '/healthz').catch(() => [0]))[0] === 200);
  await begun.until('a reason', async () => (await answerOf(http, '/readyz'))[1].includes('database'));
  expect((await answerOf(http, '/readyz'))[0]).toBe(503);
  const proxy = await CuttingProxy.open(starts.database.url, port);
  try {
    await begun.until('to serve', async () => (await answerOf(http, '/readyz'))[0] === 200);
    expect(await answerOf(http, '/readyz')).toEqual([200, 'ready']);
  } finally {
    await begun.kill();
    await proxy.close();
  }
});
