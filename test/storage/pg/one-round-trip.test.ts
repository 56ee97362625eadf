import fc from 'fast-check';
import { Client, type Connection } from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { byteaArray } from '../../../src/storage/pg/bytea-array.ts';
import { inOneRoundTrip, type Statement } from '../../../src/storage/pg/one-round-trip.ts';
import type { Parameter } from '../../../src/storage/pg/parameter.ts';
import { property } from '../../coordinator/property.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';

let database: TestDatabase;
let client: Client;

beforeEach(async () => {
  database = await createTestDatabase();
  client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query('CREATE TABLE notes (id integer PRIMARY KEY, note text)');
});

afterEach(async () => {
  await client.end();
  await database.drop();
});

const insert = (id: number, note: string | null): Statement => ({
  name: 'insert_note',
  text: 'INSERT INTO notes VALUES ($1, $2) RETURNING id, note',
  parameters: [id, note],
});
const all: Statement = { name: 'all_notes', text: 'SELECT note FROM notes ORDER BY id', parameters: [] };
const divide = (by: number): Statement => ({ name: 'divide', text: 'SELECT 1 / $1::integer', parameters: [by] });

const notes = async (): Promise<(string | null)[]> =>
  (await client.query<{ note: string | null }>(all.text)).rows.map(({ note }) => note);

test('every statement sees the writes of the statements before it, and returns its own rows', async () => {
  const rows = await inOneRoundTrip(client, [insert(1, 'a'), all, insert(2, null), insert(3, ''), all]);
  expect(rows).toEqual([[['1', 'a']], [['a']], [['2', null]], [['3', '']], [['a'], [null], ['']]]);
  expect(await notes()).toEqual(['a', null, '']);
});

test('parameters of any size arrive, and arrive again from the same buffer', async () => {
  const text = fc.string({ unit: 'grapheme' }).filter((one) => !one.includes('\0'));
  const value = fc.oneof(text, fc.integer(), fc.constant(null), fc.integer({ min: 8_000, max: 3_000_000 }).map(String));
  const echo = (parameters: readonly Parameter[]): Statement => ({
    name: `echo_${parameters.length}`,
    text: `SELECT ${parameters.map((_, index) => `$${index + 1}::text`).join(', ')}`,
    parameters,
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(value, { maxLength: 5 }), { minLength: 1, maxLength: 4 }), async (sent) => {
      const rows = await inOneRoundTrip(client, sent.map(echo));
      expect(rows).toEqual(sent.map((parameters) => [parameters.map((one) => (one === null ? null : String(one)))]));
    }),
    property(100),
  );
  for (const bytes of [10, 2_000_000, 500_000, 20]) {
    const elements = [Buffer.alloc(bytes, 'x'), Buffer.alloc(3, 'y')];
    const statement: Statement = {
      name: 'lengths',
      text: 'SELECT octet_length(($1::bytea[])[1]), right(encode(($1::bytea[])[2], $2), 3)',
      parameters: [byteaArray(elements), 'escape'],
    };
    expect(await inOneRoundTrip(client, [statement, statement])).toEqual([
      [[`${bytes}`, 'yyy']],
      [[`${bytes}`, 'yyy']],
    ]);
  }
});

describe('an error of a transaction', () => {
  test.each([
    ['first', [divide(0), insert(1, 'a')]],
    ['middle', [insert(1, 'a'), divide(0), insert(2, 'b')]],
    ['last', [insert(1, 'a'), insert(2, 'b'), divide(0)]],
  ])('an error of the %s statement rolls everything back, and the session goes on', async (_, statements) => {
    for (let tries = 0; tries < 2; tries++) {
      await expect(inOneRoundTrip(client, statements)).rejects.toMatchObject({ code: '22012' });
      expect(await notes()).toEqual([]);
      expect(await inOneRoundTrip(client, [divide(1)])).toEqual([[['1']]]);
    }
    await inOneRoundTrip(client, [insert(1, 'a'), insert(2, 'b')]);
    expect(await notes()).toEqual(['a', 'b']);
  });

  test('an error of the commit itself is thrown, and rolls everything back', async () => {
    await client.query('ALTER TABLE notes ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED');
    await expect(inOneRoundTrip(client, [insert(1, 'a'), insert(2, 'a')])).rejects.toMatchObject({ code: '23505' });
    expect(await notes()).toEqual([]);
  });

  test('a statement that cannot be prepared fails in every transaction', async () => {
    const wrong: Statement = { name: 'wrong', text: 'SELECT nothing FROM nowhere', parameters: [] };
    for (let tries = 0; tries < 2; tries++) {
      await expect(inOneRoundTrip(client, [insert(1, 'a'), wrong])).rejects.toMatchObject({ code: '42P01' });
    }
    expect(await notes()).toEqual([]);
  });

  test('the end of a connection is thrown, before and after a statement is sent', async () => {
    client.on('error', () => undefined);
    const other = new Client({ connectionString: database.url });
    await other.connect();
    const sleep: Statement = { name: 'sleep', text: 'SELECT pg_sleep(30)', parameters: [] };
    const asleep = expect(inOneRoundTrip(client, [insert(1, 'a'), sleep])).rejects.toThrow(/terminat/);
    const ended = `SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event = 'PgSleep'`;
    while ((await other.query(ended)).rowCount === 0);
    await asleep;
    await expect(inOneRoundTrip(client, [insert(1, 'a')])).rejects.toThrow(/terminated|not queryable/);
    expect((await other.query('SELECT FROM notes')).rowCount).toBe(0);
    await other.end();
  });

  test('a connection that ended before anything was sent has a known outcome', async () => {
    client.on('error', () => undefined);
    // The server has ended the connection, and the client has not noticed it yet.
    (client as unknown as { readonly connection: Connection }).connection.stream.end();
    const statements = inOneRoundTrip(client, [insert(1, 'a')]);
    await expect(statements).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    await expect(inOneRoundTrip(client, [insert(1, 'a')])).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  });
});

test('a session keeps only the statements that it used last', async () => {
  const statement = (n: number): Statement => ({ name: `number_${n}`, text: `SELECT ${n}`, parameters: [] });
  const sent = Array.from({ length: 500 }, (_, n) => statement(n));
  for (const one of sent)
    expect(await inOneRoundTrip(client, [one, insert(Number(one.name.slice(7)), '')])).toBeDefined();
  const { rows } = await client.query<{ name: string }>('SELECT name FROM pg_prepared_statements');
  const kept = new Set(rows.map(({ name }) => name));
  expect(kept.size).toBe(200);
  expect(kept).toEqual(new Set(['insert_note', ...sent.slice(-199).map(({ name }) => name)]));
  expect(await inOneRoundTrip(client, sent)).toEqual(sent.map((_, n) => [[`${n}`]]));
});
