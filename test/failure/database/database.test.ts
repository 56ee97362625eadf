import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status, type ServiceError } from '@grpc/grpc-js';
import { Client as Postgres } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import { startBroker, type BrokerProcess } from '../../../bench/support/broker-process.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { startEmbeddedPostgres } from '../../../src/embedded/embedded.ts';
import { Consumer, createTopic, inversions, Publisher } from '../clients.ts';

type EmbeddedPostgres = Awaited<ReturnType<typeof startEmbeddedPostgres>>;

/** R6: the database goes away and comes back; the broker stays. */

let dataDir: string;
let server: EmbeddedPostgres;
let broker: BrokerProcess;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'millrace-failure-'));
  const log = { info: () => undefined, warn: () => undefined };
  server = await startEmbeddedPostgres({ dataDir, log, walBytes: 0 });
  broker = await startBroker({ databaseUrl: server.connectionString });
});
afterEach(async () => {
  broker.kill('SIGKILL');
  await broker.exited;
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
});

async function underLoad(trouble: () => Promise<void>): Promise<void> {
  await createTopic(broker.grpcAddress, 'orders');
  const publisher = new Publisher([broker.grpcAddress], 'orders');
  const consumer = new Consumer([broker.grpcAddress], 'a', 'orders').start();
  publisher.start(4, 10);
  await consumer.until('received before', () => consumer.received.size > 300);
  await trouble();
  const before = publisher.confirmed.size;
  await consumer.until('publishes go on', () => publisher.confirmed.size > before + 500);
  await publisher.stop();
  await consumer.until('everything confirmed', () => consumer.received.size >= publisher.confirmed.size);
  expect([...publisher.confirmed.keys()].filter((n) => !consumer.received.has(n))).toEqual([]);
  expect(consumer.afterAck).toEqual([]);
  expect(inversions(consumer.deliveries, publisher.confirmed)).toBe(0);
  await consumer.stop();
}

test(
  'all backends terminated under load: nothing confirmed is lost, and it goes on by itself',
  { timeout: 90_000 },
  () =>
    underLoad(async () => {
      const postgres = new Postgres({ connectionString: server.connectionString });
      await postgres.connect();
      for (let round = 0; round < 3; round++) {
        await postgres.query(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'millrace/%'",
        );
        await waitFor('the broker to be connected again', 10_000, 10, async () => {
          const { rows } = await postgres.query<{ n: number }>(
            "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name LIKE 'millrace/%'",
          );
          return rows[0]!.n > 2;
        });
      }
      await postgres.end();
    }),
);

test(
  'the database restarted under load: nothing confirmed is lost, and it goes on by itself',
  { timeout: 90_000 },
  () =>
    underLoad(async () => {
      const before = server.pid;
      process.kill(before, 'SIGINT');
      await waitFor('the database to be there again', 30_000, 20, () => server.pid !== before);
    }),
);

test(
  'while the database is away a publish is answered with UNAVAILABLE and when to retry',
  { timeout: 60_000 },
  async () => {
    await createTopic(broker.grpcAddress, 'orders');
    const client = connect(broker.grpcAddress);
    const publish = () =>
      call(client, BrokerService.method.publish, { topic: 'orders', records: [{ key: 'k', value: Buffer.from('v') }] });
    await publish();
    process.kill(server.pid, 'SIGINT');
    let refused: ServiceError | null = null;
    await waitFor('a publish to be refused', 20_000, 1, async () => {
      refused = await publish().then(
        () => null,
        (error: ServiceError) => error,
      );
      return refused !== null;
    });
    expect(refused!.code).toBe(status.UNAVAILABLE);
    expect(refused!.metadata.get('grpc-status-details-bin').length).toBe(1);
    await waitFor('a publish to be confirmed again', 20_000, 20, () =>
      publish().then(
        () => true,
        () => false,
      ),
    );
    expect(broker.process.exitCode).toBeNull();
    client.close();
  },
);
