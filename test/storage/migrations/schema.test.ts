import { is } from 'drizzle-orm';
import { getTableConfig, PgTable } from 'drizzle-orm/pg-core';
import { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import * as groupSchema from '../../../src/storage/schema/group-schema.ts';
import * as logSchema from '../../../src/storage/schema/log-schema.ts';
import { migrate } from '../../../src/storage/migrations/migrate.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';

let database: TestDatabase;
let client: Client;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new Client({ connectionString: database.url });
  await client.connect();
  await migrate(client);
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

const tables = Object.values({ ...logSchema, ...groupSchema })
  .filter((exported) => is(exported, PgTable))
  .map((table) => getTableConfig(table));

/** Joins each list of texts, so that a set can compare them. */
const lines = async (sql: string): Promise<string[]> => {
  const { rows } = await client.query<{ line: string }>(sql);
  return rows.map(({ line }) => line).sort();
};

test('every column in the database is the same as in the schema of the queries', async () => {
  const believed = tables.flatMap(({ schema, name, columns }) =>
    columns.map((column) => {
      const identity = column.generatedIdentity?.type ?? 'no';
      const filled = column.hasDefault || identity !== 'no' ? 'has a default' : 'has none';
      return `${schema}.${name}.${column.name} ${column.getSQLType()} ${column.notNull ? 'not null' : 'null'} identity ${identity} ${filled}`;
    }),
  );
  const there = await lines(`
    SELECT format('millrace.%s.%s %s %s identity %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN 'not null' ELSE 'null' END,
                  CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'byDefault' ELSE 'no' END,
                  CASE WHEN a.atthasdef OR a.attidentity <> '' THEN 'has a default' ELSE 'has none' END) AS line
      FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE c.relnamespace = 'millrace'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND c.relname <> 'migrations'`);
  expect(there.length).toBeGreaterThan(50);
  expect(believed.sort()).toEqual(there);
});

test('every primary key in the database is the same as in the schema of the queries', async () => {
  const believed = tables.flatMap(({ name, columns, primaryKeys }) => {
    const ofTable = primaryKeys[0]?.columns ?? columns.filter((column) => column.primary);
    return ofTable.length === 0 ? [] : [`${name} (${ofTable.map((column) => column.name).join(', ')})`];
  });
  const there = await lines(`
    SELECT format('%s (%s)', c.relname, (
             SELECT string_agg(a.attname, ', ' ORDER BY k.position)
               FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, position)
               JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum)) AS line
      FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
     WHERE i.indisprimary AND c.relnamespace = 'millrace'::regnamespace AND NOT c.relispartition
       AND c.relname <> 'migrations'`);
  expect(believed.sort()).toEqual(there);
});

test('every unique key in the database is the same as in the schema of the queries', async () => {
  const believed = tables.flatMap(({ name, columns, uniqueConstraints, indexes }) => [
    ...columns.filter((column) => column.isUnique).map((column) => `${name} (${column.name})`),
    ...uniqueConstraints.map((unique) => `${name} (${unique.columns.map((column) => column.name).join(', ')})`),
    ...indexes
      .filter(({ config }) => config.unique)
      .map(
        ({ config }) => `${name} (${config.columns.map((column) => ('name' in column ? column.name : '')).join(', ')})`,
      ),
  ]);
  const there = await lines(`
    SELECT format('%s (%s)', c.relname, (
             SELECT string_agg(a.attname, ', ' ORDER BY k.position)
               FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, position)
               JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum)) AS line
      FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
     WHERE i.indisunique AND NOT i.indisprimary AND c.relnamespace = 'millrace'::regnamespace`);
  expect(believed.sort()).toEqual(there);
});

test('no column of records is compressed by pglz, which would halve the rate of appends', async () => {
  const there = await lines(`
    SELECT format('%s %s', a.attstorage, a.attcompression) AS line FROM pg_attribute AS a
     WHERE a.attrelid = 'millrace.record_batches'::regclass AND a.atttypid = 'bytea[]'::regtype`);
  expect(there).toHaveLength(4);
  expect(['x l', 'e ']).toContain(there[0]);
  expect(new Set(there).size).toBe(1);
});
