import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { flagsOf, oneLine, Start } from '../../broker/start.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import { PgBouncer, pgbouncerMissing } from '../../support/pgbouncer.ts';
import { startBroker } from '../../../bench/support/broker-process.ts';
import { Consumer, createTopic, Publisher } from '../clients.ts';

const missing = pgbouncerMissing();

describe.skipIf(missing !== null)('behind a pooler', () => {
  let database: TestDatabase;
  beforeEach(async () => {
    database = await createTestDatabase();
  });
  afterEach(async () => {
    await database.drop();
  });

  test('in transaction mode, which would take the lock of the lease from its broker, the start is refused', async () => {
    const pooler = await PgBouncer.open(database.url, 'transaction');
    try {
      const line = await oneLine(new Start(await flagsOf(pooler.url)), 1);
      expect(line).toMatch(/pooler .*transaction mode.*session mode/);
    } finally {
      await pooler.close();
    }
  });

  test('in session mode what was published is delivered and acked', { timeout: 60_000 }, async () => {
    const pooler = await PgBouncer.open(database.url, 'session');
    try {
      const broker = await startBroker({ databaseUrl: pooler.url });
      await createTopic(broker.grpcAddress, 'orders');
      const consumer = new Consumer([broker.grpcAddress], 'a', 'orders').start();
      const publisher = new Publisher([broker.grpcAddress], 'orders');
      publisher.start(2, 10);
      await consumer.until('records through the pooler', () => consumer.received.size > 100);
      await publisher.stop();
      await consumer.until('everything confirmed', () => consumer.received.size >= publisher.confirmed.size);
      await consumer.stop();
      expect(await broker.stop()).toBe(0);
    } finally {
      await pooler.close();
    }
  });
});

test.runIf(missing !== null)(`poolers were not tried: ${missing}`, () => {
  expect(missing).not.toBeNull();
});
