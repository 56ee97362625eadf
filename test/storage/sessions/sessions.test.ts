import type { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import { Connection } from '../../../src/storage/sessions/connection.ts';
import { ServerChoice } from '../../../src/storage/sessions/server-choice.ts';
import { identityOf, openSession } from '../../../src/storage/sessions/session.ts';
import { UnsettledSessions } from '../../../src/storage/commit/unsettled.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';
import { appendSlots, LogSite } from '../log/log-site.ts';
import { batch, readAll, transaction, values } from '../../log/records.ts';
import { takeFence } from '../../../src/storage/sessions/fence.ts';
import { groupSlot, tableSlot, topicSlot } from '../../../src/storage/sessions/writer.ts';
import { startsAt } from '../../support/starts.ts';
import { allGroups } from '../../conformance/loads.ts';
import { createIn } from '../../support/groups/group-writes.ts';

let site: LogSite;
let role: string;
let url: string;
let opened: Client[];

beforeEach(async () => {
  site = await LogSite.open();
  opened = [];
  role = `role_${systemRandom.uuid().replaceAll('-', '')}`;
  await site.client.query(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'secret'`);
  const named = new URL(site.database.url);
  named.username = role;
  named.password = 'secret';
  url = named.href;
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await Promise.all(opened.map((client) => client.end()));
  await site.client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  await site.close();
});

async function open(at = url, settings: Readonly<Record<string, string>> = {}): Promise<Client> {
  const options = { address: parseDatabaseAddress(at), applicationName: 'millrace/one/test', settings };
  const client = await openSession({ ...options, clock: systemClock }, () => undefined);
  opened.push(client);
  return client;
}

async function shown(client: Client, name: string): Promise<string> {
  const { rows } = await client.query<{ value: string }>('SELECT current_setting($1) AS value', [name]);
  return rows[0]!.value;
}

/**
 * Each setting changes the meaning of a query, the form of its answer, or the life of a session.
 */
const hostile: readonly (readonly [setting: string, value: string, kept: string])[] = [
  ['statement_timeout', '1ms', '0'],
  ['lock_timeout', '1ms', '0'],
  ['idle_session_timeout', '2s', '0'],
  ['idle_in_transaction_session_timeout', '1ms', '0'],
  ['transaction_timeout', '900ms', '0'],
  ['default_transaction_isolation', 'serializable', 'read committed'],
  ['default_transaction_read_only', 'on', 'off'],
  ['default_transaction_deferrable', 'on', 'off'],
  ['search_path', 'public', 'pg_catalog'],
  ['datestyle', 'German', 'ISO, YMD'],
  ['datestyle', 'SQL, DMY', 'ISO, YMD'],
  ['intervalstyle', 'iso_8601', 'postgres'],
  ['timezone', 'Asia/Kathmandu', 'UTC'],
  ['extra_float_digits', '-15', '1'],
  ['bytea_output', 'escape', 'hex'],
  ['standard_conforming_strings', 'off', 'on'],
  ['array_nulls', 'off', 'on'],
  ['transform_null_equals', 'on', 'off'],
  ['client_encoding', 'LATIN1', 'UTF8'],
  ['client_min_messages', 'debug5', 'warning'],
  ['session_replication_role', 'replica', 'origin'],
  ['row_security', 'on', 'off'],
  ['jit', 'on', 'off'],
  ['plan_cache_mode', 'force_custom_plan', 'force_generic_plan'],
  ['synchronous_commit', 'off', 'on'],
  ['synchronous_commit', 'local', 'on'],
  ['application_name', 'somebody', 'millrace/one/test'],
];

test('no default of the role or the database changes the settings of a session', async () => {
  for (const owner of [`ROLE ${role}`, `DATABASE ${site.database.name}`]) {
    for (const [name, value, kept] of hostile) {
      await site.client.query(`ALTER ${owner} SET ${name} = ${name === 'search_path' ? value : `'${value}'`}`);
      const client = await open();
      expect([owner, name, await shown(client, name)]).toEqual([owner, name, kept]);
      await site.client.query(`ALTER ${owner} RESET ${name}`);
    }
  }
});

test('a session has the settings of its purpose, and keeps a stronger synchronous_commit', async () => {
  await site.client.query(`ALTER ROLE ${role} SET synchronous_commit = 'remote_apply'`);
  const client = await open(url, { lock_timeout: '10s', transaction_timeout: '30s' });
  const names = ['lock_timeout', 'transaction_timeout', 'synchronous_commit'];
  const found = [];
  for (const name of names) found.push(await shown(client, name));
  expect(found).toEqual(['10s', '30s', 'remote_apply']);
});

test('a session that does not keep a setting is rejected with the difference', async () => {
  // The server shows 600s in another form, so the comparison finds that the value was not kept.
  await expect(open(url, { lock_timeout: '600s' })).rejects.toMatchObject({
    kind: 'DATABASE_UNAVAILABLE',
    message: expect.stringContaining('lock_timeout is "10min" and was set to "600s"'),
  });
});

test('times, bytes and numbers are read correctly, whatever form the defaults give them', async () => {
  for (const [name, value] of hostile) {
    if (name === 'search_path') continue;
    if (value === 'German') continue;
    await site.client.query(`ALTER ROLE ${role} SET ${name} = '${value}'`);
  }
  await site.client.query(`ALTER DATABASE ${site.database.name} SET datestyle = 'German'`);
  const storage = site.storage('one', 1, url);
  await storage.check(false);
  const slots = [...Array(appendSlots).keys(), groupSlot, topicSlot, tableSlot];
  await takeFence(site.client, 'one', 1, slots);
  const topic = await site.topic(storage, 1);
  await site.client.query("UPDATE millrace.topics SET created_at = '2026-02-03T04:05:06.789Z'");
  const [loaded] = await storage.topics.loadTopics();
  expect(loaded!.createdAtMs).toBe(Date.parse('2026-02-03T04:05:06.789Z'));
  await storage.commits.append(0, transaction([batch(topic, 0, values('\u0000\\x41'))]));
  expect((await readAll(storage, topic, 0)).map(({ parts }) => parts[2])).toEqual(['\u0000\\x41']);
  const [age] = await storage.log.appendAges(topic.id, [{ partition: 0, lane: 0, offset: 0 }]);
  expect(age).toBeGreaterThanOrEqual(0);
  expect(age).toBeLessThan(20_000);
  const groupId = await storage.groups.createGroup('g');
  const [subscription] = await createIn(storage.groups, [{ groupId, topicId: topic.id, offsets: startsAt([0]) }]);
  await site.client.query("UPDATE millrace.subscriptions SET created_at = '2026-02-03T04:05:06.789Z'");
  const [group] = await allGroups(storage.groups);
  expect(group!.subscriptions).toMatchObject([
    { id: subscription!.id, createdAtMs: Date.parse('2026-02-03T04:05:06.789Z') },
  ]);
});

test('no variable of the environment reaches a session', async () => {
  const environment = {
    PGHOST: '192.0.2.1',
    PGPORT: '1',
    PGDATABASE: 'nowhere',
    PGUSER: 'nobody',
    PGPASSWORD: 'wrong',
    PGPASSFILE: '/dev/null',
    PGOPTIONS: '-c statement_timeout=60s',
    PGAPPNAME: 'somebody',
    PGSSLMODE: 'require',
    PGSSLNEGOTIATION: 'direct',
    PGREPLICATION: 'database',
    PGCLIENT_ENCODING: 'LATIN1',
    PGBINARY: '1',
    PGCONNECT_TIMEOUT: '1',
  };
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  const client = await open();
  expect(await shown(client, 'statement_timeout')).toBe('0');
  expect(await shown(client, 'application_name')).toBe('millrace/one/test');
  const { rows } = await client.query('SELECT current_user::text AS who, 7 AS n');
  expect(rows).toEqual([{ who: role, n: 7 }]);
  const bare = new URL(url);
  bare.password = '';
  await expect(open(bare.href)).rejects.toMatchObject({
    kind: 'DATABASE_UNAVAILABLE',
    message: expect.stringContaining('asks for a password, and the connection string has none'),
  });
});

test('a role that cannot see the start of its sessions is rejected, or a live one would count as ended', async () => {
  const other = `${role}_other`;
  await site.client.query(`CREATE ROLE ${other}; ALTER ROLE ${role} SET role = '${other}'`);
  const refused: unknown = await open().catch((error: unknown) => error);
  await site.client.query(`DROP ROLE ${other}; ALTER ROLE ${role} RESET role`);
  expect(refused).toMatchObject({
    kind: 'DATABASE_UNAVAILABLE',
    message: expect.stringContaining('does not see the start times of its own sessions'),
  });
});

describe('a session that may still be appending', () => {
  const gone = async (client: Client): Promise<boolean> =>
    (await site.number('SELECT count(*) AS n FROM pg_stat_activity WHERE pid = $1', [identityOf(client).pid])) === 0;

  test('a session that may still append is found and ended, whatever its name', async () => {
    const unsettled = new UnsettledSessions();
    const client = await open();
    client.on('error', () => undefined);
    await client.query("SET application_name = 'psql'");
    unsettled.add(client);
    await unsettled.end(site.client);
    expect(await gone(client)).toBe(true);
  });

  test('a session that ended is not confused with a new one that has its process id', async () => {
    const unsettled = new UnsettledSessions();
    const client = await open();
    const identity = identityOf(client);
    Object.assign(identity, { startUs: String(BigInt(identity.startUs) - 1n) });
    unsettled.add(client);
    await unsettled.end(site.client);
    expect(await gone(client)).toBe(false);
  });
});

test('a connection leaves its server as soon as the lease is on another one, even in the middle of its work', async () => {
  const server = new ServerChoice();
  const options = { address: parseDatabaseAddress(url), applicationName: 'millrace/one/test', clock: systemClock };
  const connection = new Connection({ ...options, server });
  const found = await connection.run(async (client) => identityOf(client).server);
  server.choose(found);
  await connection.run((client) => client.query('SELECT 1'));
  const hangs = connection.run((client) => client.query('SELECT pg_sleep(60)'));
  const active = `SELECT count(*) AS n FROM pg_stat_activity WHERE usename = '${role}' AND query LIKE '%pg_sleep%'`;
  while ((await site.number(active)) === 0);
  server.choose({ ...found, startedUs: '1' });
  await expect(hangs).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  await expect(connection.run((client) => client.query('SELECT 1'))).rejects.toMatchObject({
    kind: 'DATABASE_UNAVAILABLE',
    message: expect.stringContaining('than the one that has the lease'),
  });
  server.choose(found);
  await connection.run((client) => client.query('SELECT 1'));
  await connection.close();
});
