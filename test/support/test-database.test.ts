import { Client } from 'pg';
import { expect, test } from 'vitest';
import { createTestDatabase } from './database.ts';

test('two test files never see the tables of each other', async () => {
  const [one, other] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  const client = new Client({ connectionString: one.url });
  await client.connect();
  await client.query('CREATE TABLE t ()');
  const elsewhere = new Client({ connectionString: other.url });
  await elsewhere.connect();
  const { rows } = await elsewhere.query("SELECT to_regclass('t') AS found");
  expect(rows).toEqual([{ found: null }]);
  await Promise.all([client.end(), elsewhere.end()]);
  await Promise.all([one.drop(), other.drop()]);
});
