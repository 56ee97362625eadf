import { Client } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { TableNumbers } from '../../../src/metrics/database-numbers.ts';
import { LogSite } from '../log/log-site.ts';

let site: LogSite;
const clients: Client[] = [];

beforeEach(async () => {
  site = await LogSite.open();
});

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end()));
  await site.close();
});

async function session(applicationName: string): Promise<Client> {
  const client = new Client({ connectionString: site.database.url, application_name: applicationName });
  clients.push(client);
  await client.connect();
  return client;
}

const read = () => site.storage('one', 1).numbers.read();

async function numbersOf(table: string): Promise<TableNumbers> {
  const found = (await read()).tables.find((one) => one.table === table);
  expect(found, table).toBeDefined();
  return found!;
}

const withoutAutovacuum = () => site.client.query('ALTER TABLE millrace.topics SET (autovacuum_enabled = off)');

/** Makes dead rows in the table of topics, and waits until the statistics have them. */
async function rewriteTopics(times: number): Promise<void> {
  // While a snapshot may see them, no later update of their page removes them.
  const reader = await session('reader');
  await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await reader.query('SELECT 1');
  for (let n = 0; n < times; n++) await site.client.query('UPDATE millrace.topics SET description = $1', [`d${n}`]);
  await site.client.query('SELECT pg_stat_force_next_flush()');
  await site.client.query('SELECT 1');
}

test('the holder is the session with the oldest snapshot, by its pid and its application', async () => {
  const holder = await session('report');
  await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  const { rows } = await holder.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const later = await session('later');
  // A transaction that comes later holds back less.
  for (let n = 0; n < 3; n++) await site.client.query('CREATE TEMPORARY TABLE IF NOT EXISTS used (id int)');
  for (let n = 0; n < 3; n++) await site.client.query('INSERT INTO used VALUES (1)');
  await later.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await later.query('SELECT 1');
  const { holder: found } = await read();
  expect(found).toMatchObject({ pid: rows[0]!.pid, application: 'report' });
  expect(found!.transactions).toBeGreaterThanOrEqual(3);
  expect(found!.seconds).toBeGreaterThan(0);
});

test('a replication slot without a snapshot holds nothing back', async () => {
  const slot = `slot_${site.database.name}`.slice(0, 60);
  await site.client.query('SELECT pg_create_physical_replication_slot($1)', [slot]);
  try {
    expect((await read()).holder?.application).not.toBe(slot);
  } finally {
    await site.client.query('SELECT pg_drop_replication_slot($1)', [slot]);
  }
});

test('dead rows are counted for each table, and all segments of all topics are one', async () => {
  const storage = await site.own('one', 1);
  for (let n = 0; n < 2; n++) await site.topic(storage, 1);
  await withoutAutovacuum();
  const before = await numbersOf('topics');
  await rewriteTopics(50);
  expect((await numbersOf('topics')).deadTuples).toBeGreaterThanOrEqual(before.deadTuples + 50);
  const names = (await read()).tables.map(({ table }) => table);
  expect(names.filter((name) => name.startsWith('record_batches'))).toEqual(['record_batches']);
  expect(names).toEqual(expect.arrayContaining(['ack_log', 'cursors', 'idempotency', 'topics']));
});

test('bloat is the size of a table beyond that of its rows, and unknown before the first ANALYZE', async () => {
  const storage = await site.own('one', 1);
  await site.topic(storage, 1);
  expect((await numbersOf('topics')).bloatBytes).toBe(null);
  await withoutAutovacuum();
  await site.client.query(`INSERT INTO millrace.topics (name, semantics, idempotency_window_ms, description, segment)
    SELECT 'filler-' || n, 'PUB_SUB', 0, repeat('x', 500), 1 FROM generate_series(1, 2000) AS n`);
  await site.client.query('ANALYZE millrace.topics');
  const full = await numbersOf('topics');
  expect(full.bytes).toBeGreaterThan(1_000_000);
  expect(full.bloatBytes).toBeLessThan(0.2 * full.bytes);
  await site.client.query(`DELETE FROM millrace.topics WHERE name LIKE 'filler-%'`);
  await site.client.query('ANALYZE millrace.topics');
  const bloated = await numbersOf('topics');
  expect(bloated.bloatBytes).toBeGreaterThan(0.8 * bloated.bytes);
});

test('WAL only grows, and the size is that of the whole database', async () => {
  const before = await read();
  await site.client.query(`CREATE TABLE filler AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)`);
  const after = await read();
  expect(after.walBytes).toBeGreaterThan(before.walBytes + 1_000_000);
  expect(after.bytes).toBeGreaterThan(before.bytes + 1_000_000);
});

test('a table that another session has locked fails the reading within seconds, and the next one works', async () => {
  const locker = await session('locker');
  await locker.query('BEGIN');
  await locker.query('LOCK TABLE millrace.topics IN ACCESS EXCLUSIVE MODE');
  await expect(read()).rejects.toMatchObject({ name: 'Fault' });
  await locker.query('ROLLBACK');
  expect((await read()).tables.length).toBeGreaterThan(5);
});
