import { Client } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { migrate } from '../../../src/storage/migrations/migrate.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import { rollBack } from './roll-back.ts';

/** The version before the ends of epochs are kept. */
const before = 11;
let database: TestDatabase;
let client: Client;

beforeEach(async () => {
  database = await createTestDatabase();
  client = new Client({ connectionString: database.url });
  await client.connect();
  await migrate(client, before);
});

afterEach(async () => {
  await client.end();
  await database.drop();
});

test.each([
  ['an owner that lives', "'2026-01-01 00:01Z'", 6],
  ['an owner that has released its lease', "'-infinity'", 7],
])('the last renewal before %s survives the upgrade and the way back', async (_what, renewedAt, endedEpoch) => {
  await client.query(`
    INSERT INTO millrace.broker_lease (broker, epoch, renewed_at, before_renewed_at)
    VALUES ('one', 7, ${renewedAt}, '2026-01-01 00:00Z')`);
  await migrate(client);
  const ends = await client.query('SELECT epoch::int, renewed_at FROM millrace.broker_epochs');
  expect(ends.rows).toEqual([{ epoch: endedEpoch, renewed_at: new Date('2026-01-01T00:00Z') }]);
  await client.query("INSERT INTO millrace.broker_epochs VALUES (8, '2026-01-02 00:00Z')");
  await rollBack(client, before);
  const { rows } = await client.query('SELECT before_renewed_at FROM millrace.broker_lease');
  expect(rows).toEqual([{ before_renewed_at: new Date('2026-01-02T00:00Z') }]);
});

test('gaps from before count as told, and later ones do not', async () => {
  await client.query(`
    INSERT INTO millrace.topics (name, semantics, idempotency_window_ms, description, segment) VALUES ('t', 'PUB_SUB', 1, '', 1);
    INSERT INTO millrace.consumer_groups (name) VALUES ('billing');
    INSERT INTO millrace.subscriptions (group_id, topic_id) VALUES (1, 1)`);
  const add = (partition: number) =>
    client.query(
      `INSERT INTO millrace.cursor_gaps (subscription_id, partition, lane, first_offset, last_offset, reason)
       VALUES (1, $1, 0, 0, 9, 'MAX_AGE')`,
      [partition],
    );
  await add(0);
  await migrate(client);
  await add(1);
  const { rows } = await client.query('SELECT partition, told FROM millrace.cursor_gaps ORDER BY partition');
  expect(rows).toEqual([
    { partition: 0, told: true },
    { partition: 1, told: false },
  ]);
});
