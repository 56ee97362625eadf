import { afterEach, beforeEach, expect, test } from 'vitest';
import { startBroker, type BrokerProcess } from '../../../bench/support/broker-process.ts';
import { Consumer, createTopic, Publisher } from '../clients.ts';
import { DebianServer, debianPrograms } from './debian-server.ts';

/** Backups of docs/operations.md, taken beside a broker that serves, and restored. */

const servers: DebianServer[] = [];
const brokers: BrokerProcess[] = [];

beforeEach(async (context) => {
  if (debianPrograms === null) context.skip('skipped without pg_dump and pg_basebackup of Debian');
  servers.push(await DebianServer.make());
}, 120_000);

afterEach(async () => {
  for (const broker of brokers.splice(0)) {
    broker.kill('SIGKILL');
    await broker.exited;
  }
  for (const server of servers.splice(0)) await server.close();
});

async function brokerOn(databaseUrl: string): Promise<BrokerProcess> {
  const broker = await startBroker({ databaseUrl, timeoutMs: 60_000 });
  brokers.push(broker);
  return broker;
}

/** What was confirmed before a backup began. */
interface Promised {
  readonly published: ReadonlySet<number>;
  /** By the group billing. */
  readonly acked: ReadonlySet<number>;
  /** What this group got. An ack without an answer may be durable. */
  readonly received: ReadonlySet<number>;
}

/**
 * Publishes and consumes while `backUp` runs, and then ends the broker. @returns what the backup
 * must have.
 */
async function whileServing(databaseUrl: string, backUp: () => Promise<void>): Promise<Promised> {
  const broker = await brokerOn(databaseUrl);
  const addresses = [broker.grpcAddress];
  await createTopic(broker.grpcAddress, 'orders');
  const publisher = new Publisher(addresses, 'orders');
  publisher.start(4, 10, 5);
  const early = new Consumer(addresses, 'billing', 'orders').start();
  await early.until('acked before', () => early.ackedRecords > 300);
  await early.stop();
  const { acked, received } = early;
  const other = new Consumer(addresses, 'shipping', 'orders').start();
  await other.until('publishes that billing never got', () => publisher.confirmed.size > received.size + 50);
  const promised = { published: new Set(publisher.confirmed.keys()), acked, received };
  await backUp();
  const atEnd = publisher.confirmed.size;
  await other.until('publishes go on after the backup', () => publisher.confirmed.size > atEnd + 100);
  await Promise.all([publisher.stop(), other.stop()]);
  broker.kill('SIGKILL');
  await broker.exited;
  return promised;
}

function missingOf(wanted: Iterable<number>, found: ReadonlySet<number>): number[] {
  return [...wanted].filter((n) => !found.has(n));
}

/** Expects all that was promised, and that publishing, delivery and acks go on. */
async function expectKept(databaseUrl: string, { published, acked, received }: Promised): Promise<void> {
  const broker = await brokerOn(databaseUrl);
  const addresses = [broker.grpcAddress];
  const owed = missingOf(published, received);
  const billing = new Consumer(addresses, 'billing', 'orders').start();
  const audit = new Consumer(addresses, 'audit', 'orders').start();
  await audit.until('all that was published', () => missingOf(published, audit.received).length === 0, 60_000);
  await billing.until('all that it never got', () => missingOf(owed, billing.received).length === 0, 60_000);
  expect([...billing.received].filter((n) => acked.has(n))).toEqual([]);
  const before = billing.ackedRecords;
  const publisher = new Publisher(addresses, 'orders');
  publisher.start(1, 10);
  await billing.until('deliveries go on', () => billing.ackedRecords > before + 100);
  await Promise.all([publisher.stop(), billing.stop(), audit.stop()]);
}

test(
  'a dump taken beside a broker that serves has all that was confirmed before, and a broker goes on from it',
  { timeout: 300_000 },
  async () => {
    const [server] = servers as [DebianServer];
    const dump = server.file('millrace.dump');
    const promised = await whileServing(server.url('postgres'), () =>
      server.run('pg_dump', '--format=custom', `--file=${dump}`, server.url('postgres')),
    );
    await server.run('createdb', `--maintenance-db=${server.url('postgres')}`, 'restored');
    await server.run('pg_restore', '--exit-on-error', `--dbname=${server.url('restored')}`, dump);
    await expectKept(server.url('restored'), promised);
  },
);

test(
  'a base backup taken beside a broker that serves has all that was confirmed before, and a broker goes on from it',
  { timeout: 300_000 },
  async () => {
    const [server] = servers as [DebianServer];
    const promised = await whileServing(server.url('postgres'), async () => {
      servers.push(await server.restoredBaseBackup());
    });
    await expectKept(servers[1]!.url('postgres'), promised);
  },
);
