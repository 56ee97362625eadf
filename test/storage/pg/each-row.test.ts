import { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eachRow } from '../../../src/storage/pg/each-row.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';

let database: TestDatabase;
let client: Client;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new Client({ connectionString: database.url });
  await client.connect();
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

const numbers = { name: 'numbers', text: 'SELECT n FROM generate_series(1, $1::integer) AS n', values: [3] };

test('rows are visited one by one in their order, and none of them is kept', async () => {
  const seen: number[] = [];
  await expect(eachRow<[number]>(client, numbers, ([n]) => seen.push(n))).resolves.toBeUndefined();
  expect(seen).toEqual([1, 2, 3]);
});

test('an error of a visitor rejects the read, does not end the process, and leaves the connection usable', async () => {
  const seen: number[] = [];
  const visit = ([n]: [number]): void => {
    seen.push(n);
    if (n === 2) throw new Error('the second row is odd');
  };
  await expect(eachRow(client, numbers, visit)).rejects.toThrow('the second row is odd');
  expect(seen).toEqual([1, 2]);
  await eachRow<[number]>(client, numbers, ([n]) => seen.push(n));
  expect(seen).toHaveLength(5);
});

test('an error of the database rejects the read', async () => {
  const wrong = { name: 'wrong', text: 'SELECT 1 / $1::integer', values: [0] };
  await expect(eachRow(client, wrong, () => undefined)).rejects.toMatchObject({ code: '22012' });
});
