import { Client as Postgres } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startBroker, type BrokerProcess } from '../../../bench/support/broker-process.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { PlainServer } from '../../support/plain-server.ts';
import { untilReady } from '../brokers.ts';
import { Consumer, createTopic, inversions, Publisher } from '../clients.ts';

/** A primary and a replica behind one connection string, without a proxy. */

let primary: PlainServer;
let replica: PlainServer;
let brokers: BrokerProcess[];

beforeEach(async () => {
  brokers = [];
  primary = await PlainServer.make();
  // There is no pg_basebackup beside the server's binaries: the copy is made while nothing is
  // written.
  replica = await primary.replica();
  await primary.start();
  await replica.start();
  await query(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'");
  await query(primary, 'SELECT pg_reload_conf()');
  await waitFor('the replication to be synchronous', 20_000, 20, async () => {
    const rows = await query<{ sync_state: string }>(primary, 'SELECT sync_state FROM pg_stat_replication');
    return rows[0]?.sync_state === 'sync';
  });
}, 120_000);
afterEach(async () => {
  for (const broker of brokers) {
    broker.kill('SIGKILL');
    await broker.exited;
  }
  await Promise.all([primary.close(), replica.close()]);
});

async function query<Row extends object>(server: PlainServer, sql: string): Promise<Row[]> {
  const client = new Postgres({ connectionString: server.url });
  await client.connect();
  const { rows } = await client.query<Row>(sql).finally(() => client.end());
  return rows;
}

async function start(until: 'ready' | 'alive'): Promise<BrokerProcess> {
  const hosts = [primary, replica].map(({ port }) => `127.0.0.1:${port}`).join(',');
  const broker = await startBroker({ databaseUrl: `postgresql://${primary.login}@${hosts}/postgres`, until });
  brokers.push(broker);
  return broker;
}

test(
  'a synchronous replica promoted under load: nothing confirmed is lost, and a standby goes on there',
  { timeout: 120_000 },
  async () => {
    const active = await start('ready');
    const standby = await start('alive');
    await createTopic(active.grpcAddress, 'orders');
    const addresses = [active.grpcAddress, standby.grpcAddress];
    const publisher = new Publisher(addresses, 'orders');
    const consumer = new Consumer(addresses, 'a', 'orders').start();
    publisher.start(4, 10);
    await consumer.until('received before', () => consumer.received.size > 300);
    await primary.crash();
    await query(replica, 'SELECT pg_promote()');
    // The other server may lack records that the owner has in memory. The owner ends, so that the
    // next one loads the log.
    await active.exited;
    await untilReady(standby, 30_000);
    const before = publisher.confirmed.size;
    await consumer.until('publishes go on', () => publisher.confirmed.size > before + 300);
    await publisher.stop();
    await consumer.until('everything confirmed', () => consumer.received.size >= publisher.confirmed.size);
    expect([...publisher.confirmed.keys()].filter((n) => !consumer.received.has(n))).toEqual([]);
    expect(consumer.afterAck).toEqual([]);
    expect(inversions(consumer.deliveries, publisher.confirmed)).toBe(0);
    await consumer.stop();
  },
);
