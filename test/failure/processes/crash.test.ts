import { Client as Postgres } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { Brokers } from '../brokers.ts';
import { Consumer, createTopic, Publisher } from '../clients.ts';

/**
 * Crashes of the one broker at the points where a message could be lost or repeated; a new one
 * follows.
 */

let brokers: Brokers;
let postgres: Postgres;
beforeEach(async () => {
  brokers = await Brokers.open();
  postgres = new Postgres({ connectionString: brokers.database.url });
  await postgres.connect();
});
afterEach(async () => {
  await postgres.end();
  await brokers.close();
});

async function publishOne(address: string, n: number): Promise<void> {
  const client = connect(address);
  await call(client, BrokerService.method.publish, {
    topic: 'orders',
    records: [{ key: `k${n % 50}`, value: Buffer.from(String(n)), idempotencyKey: `n${n}` }],
  }).finally(() => {
    client.close();
  });
}

async function stored(address: string): Promise<number[]> {
  const client = connect(address);
  const numbers: number[] = [];
  for (let partition = 0; partition < 6; partition++) {
    const { batches } = await call(client, MessageService.method.readMessages, { topic: 'orders', partition });
    for (const { records } of batches)
      for (const { record } of records) numbers.push(Number(Buffer.from(record!.value)));
  }
  client.close();
  return numbers.sort((a, b) => a - b);
}

/** Waits until a backend of the broker waits for a lock that this test holds. */
async function untilBlocked(): Promise<void> {
  await waitFor('a backend to wait for the lock', 10_000, 5, async () => {
    const { rows } = await postgres.query<{ n: number }>(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
    );
    return rows[0]!.n > 0;
  });
}

test('R1: what was handled and not acked when the broker died comes again', { timeout: 60_000 }, async () => {
  const first = await brokers.active();
  await createTopic(first.grpcAddress, 'orders');
  for (let n = 0; n < 20; n++) await publishOne(first.grpcAddress, n);
  const handled = new Consumer([first.grpcAddress], 'a', 'orders', false).start();
  await handled.until('handled all', () => handled.received.size === 20);
  first.kill('SIGKILL');
  await first.exited;
  await handled.stop();
  const second = await brokers.active();
  const again = new Consumer([second.grpcAddress], 'a', 'orders').start();
  await again.until('all again', () => again.received.size === 20);
  await again.stop();
});

test('R2: what was acked when the broker died does not come again', { timeout: 60_000 }, async () => {
  const first = await brokers.active();
  await createTopic(first.grpcAddress, 'orders');
  const consumer = new Consumer([first.grpcAddress], 'a', 'orders').start();
  for (let n = 0; n < 20; n++) await publishOne(first.grpcAddress, n);
  await consumer.until('acked all', () => consumer.ackedRecords === 20);
  first.kill('SIGKILL');
  await first.exited;
  await consumer.stop();
  const second = await brokers.active();
  const again = new Consumer([second.grpcAddress], 'a', 'orders').start();
  await publishOne(second.grpcAddress, 20);
  await again.until('the next one', () => again.received.has(20));
  expect(again.deliveries.map(({ n }) => n)).toEqual([20]);
  await again.stop();
});

test(
  'R5: killed before the append, nothing is half there, and repeating stores it once',
  { timeout: 60_000 },
  async () => {
    const first = await brokers.active();
    await createTopic(first.grpcAddress, 'orders');
    await publishOne(first.grpcAddress, 0);
    await postgres.query('BEGIN; SELECT 1 FROM millrace.partitions FOR UPDATE');
    const lost = publishOne(first.grpcAddress, 1).then(
      () => 'confirmed',
      () => 'not confirmed',
    );
    await untilBlocked();
    first.kill('SIGKILL');
    expect(await lost).toBe('not confirmed');
    await postgres.query('COMMIT');
    const second = await brokers.active();
    await publishOne(second.grpcAddress, 1);
    expect(await stored(second.grpcAddress)).toEqual([0, 1]);
  },
);

test('R5: killed before the commit of an ack, the record comes again', { timeout: 60_000 }, async () => {
  const first = await brokers.active();
  await createTopic(first.grpcAddress, 'orders');
  const consumer = new Consumer([first.grpcAddress], 'a', 'orders').start();
  await publishOne(first.grpcAddress, 0);
  await consumer.until('acked the first', () => consumer.ackedRecords === 1);
  await postgres.query(
    'BEGIN; LOCK TABLE millrace.ack_log_0, millrace.ack_log_1, millrace.ack_log_2 IN ACCESS EXCLUSIVE MODE',
  );
  await publishOne(first.grpcAddress, 1);
  await untilBlocked();
  first.kill('SIGKILL');
  await first.exited;
  await consumer.stop();
  // The backend of the dead broker may wait in the lock with its COMMIT already received: it must
  // not commit.
  await postgres.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'millrace/%' AND datname = current_database()",
  );
  await postgres.query('COMMIT');
  const second = await brokers.active();
  const again = new Consumer([second.grpcAddress], 'a', 'orders').start();
  await again.until('the un-acked one', () => again.received.has(1));
  expect(again.deliveries.map(({ n }) => n)).toEqual([1]);
  await again.stop();
});

test('R5: killed again and again under load, nothing confirmed is lost', { timeout: 120_000 }, async () => {
  let broker = await brokers.active();
  await createTopic(broker.grpcAddress, 'orders');
  const ports = { grpcPort: broker.grpcPort, httpPort: broker.httpPort };
  const publisher = new Publisher([broker.grpcAddress], 'orders');
  const consumers = ['a', 'b', 'c'].map((group) => new Consumer([broker.grpcAddress], group, 'orders').start());
  publisher.start(4, 5);
  for (let round = 1; round <= 4; round++) {
    await consumers[0]!.until('received more', () => consumers[0]!.received.size > round * 300);
    broker.kill('SIGKILL');
    await broker.exited;
    broker = await brokers.active(ports);
  }
  await publisher.stop();
  for (const consumer of consumers) {
    await consumer.until('everything confirmed', () => consumer.received.size >= publisher.confirmed.size);
    expect([...publisher.confirmed.keys()].filter((n) => !consumer.received.has(n))).toEqual([]);
    expect(consumer.afterAck).toEqual([]);
    await consumer.stop();
  }
});
