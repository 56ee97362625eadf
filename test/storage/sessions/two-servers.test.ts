import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { openStorage, type Storage } from '../../../src/storage/storage.ts';
import { systemClock } from '../../../src/time/system.ts';
import { CuttingProxy } from '../../support/cutting-proxy.ts';
import { PlainServer } from '../../support/plain-server.ts';
import { batch, transaction, values } from '../../log/records.ts';
import { keepsForever } from '../../support/retention/stored-segments.ts';

/** Two servers that both accept writes, behind one connection string, as in a network split. */

const log = { info: () => undefined, warn: () => undefined };
let servers: readonly [PlainServer, PlainServer];
let proxies: CuttingProxy[];
let opened: Storage[];

beforeAll(async () => {
  servers = [await PlainServer.make(), await PlainServer.make()];
  await Promise.all(servers.map((server) => server.start({ listen_addresses: '127.0.0.1,127.0.0.2' })));
}, 120_000);
afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()));
});
beforeEach(async () => {
  opened = [];
  proxies = await Promise.all(servers.map((server) => CuttingProxy.open(server.url)));
});
afterEach(async () => {
  await Promise.all(proxies.map((proxy) => proxy.close().catch(() => undefined)));
  await Promise.all(opened.map((storage) => storage.close().catch(() => undefined)));
  for (const server of servers) await query(server, 'DROP SCHEMA IF EXISTS millrace CASCADE');
});

async function query<Row extends object>(server: PlainServer, sql: string): Promise<Row[]> {
  const client = new Client({ connectionString: server.url });
  await client.connect();
  const { rows } = await client.query<Row>(sql).finally(() => client.end());
  return rows;
}

/** The storage of a broker whose connection string names the servers in this order. */
function storageOf(...through: readonly CuttingProxy[]): Storage {
  return storageAt(through.map((proxy) => new URL(proxy.url).host).join(','));
}

function storageAt(hosts: string): Storage {
  const address = parseDatabaseAddress(`postgresql://${servers[0].login}@${hosts}/postgres`);
  const storage = openStorage({ address, brokerId: 'one', appendSlots: 2, clock: systemClock, log });
  opened.push(storage);
  return storage;
}

/** The state after a takeover, in epoch 1. */
async function own(storage: Storage): Promise<TopicRow> {
  await storage.check(false);
  expect(await storage.lease.tryLock()).toBe(true);
  await storage.migrate();
  expect(await storage.lease.takeOver(null, 2_000)).toBe(1);
  storage.setEpoch(1);
  const wanted = {
    name: 'orders',
    partitions: 1,
    idempotencyWindowMs: 60_000,
    description: '',
    retention: keepsForever,
  };
  return (await storage.topics.createTopic(wanted))!;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const records = async (server: PlainServer): Promise<number> => {
  const [row] = await query<{ n: number }>(server, 'SELECT count(*)::int AS n FROM millrace.record_batches');
  return row!.n;
};

test('an owner writes nothing to a second server when it cannot reach the first', async () => {
  const [first, second] = proxies as [CuttingProxy, CuttingProxy];
  // The second server has the same broker's lease in the same epoch, like a copy of the first.
  const twin = storageOf(second);
  await own(twin);
  await twin.close();
  const storage = storageOf(first, second);
  const topic = await own(storage);
  const append = (slot: number) => storage.commits.append(slot, transaction([batch(topic, 0, values('x'))]));
  await append(0);
  await first.close();
  // One connection has a session, and the other needs its first.
  for (const slot of [0, 1, 0, 1]) await expect(append(slot)).rejects.toMatchObject({ name: 'Fault' });
  // The session of the lease may not have noticed that its server is gone. The next session finds
  // the other server.
  const lock = (): Promise<string> => storage.lease.tryLock().then(String, (error: Error) => error.message);
  await expect.poll(lock, { timeout: 10_000 }).toMatch(/^the database has moved from .* to .*taken over anew$/);
  // The error is no Fault, so the broker ends.
  await expect(storage.lease.tryLock()).rejects.toMatchObject({ name: 'DatabaseMoved' });
  for (const slot of [0, 1]) await expect(append(slot)).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  expect(await Promise.all(servers.map(records))).toEqual([1, 0]);
});

test('an owner with a cut session stays on its server, even if an earlier host accepts connections again', async () => {
  const [first] = proxies as [CuttingProxy];
  const [server] = servers;
  await first.close();
  const hosts = `${new URL(first.url).host},127.0.0.2:${server.port}`;
  const storage = storageAt(hosts);
  await own(storage);
  // This reaches the same server by another of its addresses.
  proxies.push(await CuttingProxy.open(server.url, Number(new URL(first.url).port)));
  const unlocked = Promise.withResolvers<void>();
  storage.lease.onUnlocked(unlocked.resolve);
  await query(
    server,
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'millrace/one/lease'`,
  );
  await unlocked.promise;
  await expect.poll(() => storage.lease.tryLock().then(String, messageOf)).toBe('true');
  expect(await storage.lease.renew(1)).toBe(true);
});

test('a standby moves all its sessions to the server that it can reach', async () => {
  const [first, second] = proxies as [CuttingProxy, CuttingProxy];
  const storage = storageOf(first, second);
  await storage.check(false);
  expect(await storage.lease.tryLock()).toBe(true);
  await storage.migrate();
  const unlocked = Promise.withResolvers<void>();
  storage.lease.onUnlocked(unlocked.resolve);
  await first.close();
  await unlocked.promise;
  expect(await storage.lease.tryLock()).toBe(true);
  // The session of the migration notices by itself that its server is gone.
  await expect.poll(() => storage.migrate().then(() => 'migrated', messageOf)).toBe('migrated');
  expect(await storage.lease.takeOver(null, 2_000)).toBe(1);
  expect(await query(servers[0], 'SELECT FROM millrace.broker_lease')).toEqual([]);
  expect(await query(servers[1], 'SELECT broker FROM millrace.broker_lease')).toEqual([{ broker: 'one' }]);
});

test('the error names the reason for each host when no host can be used', async () => {
  const [first, second] = proxies as [CuttingProxy, CuttingProxy];
  const storage = storageOf(first, second);
  await Promise.all([first.close(), second.close()]);
  const ports = [first, second].map((proxy) => new URL(proxy.url).port);
  await expect(storage.check(false)).rejects.toMatchObject({
    kind: 'DATABASE_UNAVAILABLE',
    message: expect.stringMatching(new RegExp(`:${ports[0]}: .*ECONNREFUSED.*:${ports[1]}: .*ECONNREFUSED`)),
  });
});

test('a commit is not confirmed when its wait for the replica is cancelled', async () => {
  const [first] = servers;
  const storage = storageOf(proxies[0]!);
  const topic = await own(storage);
  const append = (text: string) => storage.commits.append(0, transaction([batch(topic, 0, values(text))]));
  await append('before');
  await query(first, "ALTER SYSTEM SET synchronous_standby_names = 'gone'");
  await query(first, 'SELECT pg_reload_conf()');
  // A session reads the new configuration at its next query.
  await expect
    .poll(() => query(first, 'SHOW synchronous_standby_names'))
    .toEqual([{ synchronous_standby_names: 'gone' }]);
  const waiting = append('on one machine only');
  waiting.catch(() => undefined);
  const cancelled = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
  await expect.poll(() => query(first, cancelled)).toHaveLength(1);
  await query(first, 'ALTER SYSTEM RESET synchronous_standby_names');
  await query(first, 'SELECT pg_reload_conf()');
  await expect(waiting).rejects.toMatchObject({ kind: 'OUTCOME_UNKNOWN' });
  await append('after');
  expect(await records(first)).toBe(3);
});
