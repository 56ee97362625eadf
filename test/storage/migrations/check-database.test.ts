import { Client, type ClientBase } from 'pg';
import { expect, test } from 'vitest';
import { checkDatabase } from '../../../src/storage/migrations/check-database.ts';
import { UnfitDatabase } from '../../../src/storage/migrations/migrate.ts';
import { createTestDatabase } from '../../support/database.ts';

const fit = {
  version: '180001',
  fsync: 'on',
  full_page_writes: 'on',
  may_create: true,
  may_use: true,
  owns_tables: true,
  encoding: 'UTF8',
  database: 'orders',
  in_recovery: false,
};

/** A server with these answers, because one test cannot change settings of the real one. */
function answering(answer: Partial<typeof fit>): ClientBase {
  return { query: () => Promise.resolve({ rows: [{ ...fit, ...answer }] }) } as unknown as ClientBase;
}

test.each<readonly [string, Partial<typeof fit>, RegExp]>([
  ['a server that is too old', { version: '130012' }, /PostgreSQL 14 or newer .*13/],
  ['a replica', { in_recovery: true }, /read-only replica/],
  ['a role that may not create the schema', { may_create: false }, /GRANT CREATE ON DATABASE "orders"/],
  ['a schema of another role', { may_use: false }, /connect as the role that made it/],
  ['tables of another role', { owns_tables: false }, /connect as the role that made it/],
  ['a database in LATIN1', { encoding: 'LATIN1' }, /encoding of the database "orders" is LATIN1.*ENCODING 'UTF8'/],
  ['a database that checks no encoding', { encoding: 'SQL_ASCII' }, /is SQL_ASCII.*UTF8/],
  ['a server that does not sync', { fsync: 'off' }, /fsync is off.*--allow-unsafe-database/],
  ['a server that tears pages', { full_page_writes: 'off' }, /full_page_writes is off.*--allow-unsafe-database/],
])('%s is rejected with one line that names the remedy', async (_name, answer, message) => {
  const refused = await checkDatabase(answering(answer), false).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(UnfitDatabase);
  expect((refused as Error).message).toMatch(message);
  expect((refused as Error).message).not.toContain('\n');
});

test('an unsafe database is accepted only with --allow-unsafe-database, which excuses nothing else', async () => {
  await checkDatabase(answering({ fsync: 'off', full_page_writes: 'off' }), true);
  await expect(checkDatabase(answering({ in_recovery: true }), true)).rejects.toBeInstanceOf(UnfitDatabase);
});

test('the server of the tests passes the check', async () => {
  const database = await createTestDatabase();
  const client = new Client({ connectionString: database.url });
  await client.connect();
  await checkDatabase(client, false);
  await client.end();
  await database.drop();
});
