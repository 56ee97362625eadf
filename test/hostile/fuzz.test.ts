import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { startBroker, type BrokerProcess } from '../../bench/support/broker-process.ts';
import { createMigratedDatabase, type TestDatabase } from '../support/database.ts';
import { allGenerators, Fuzzer } from './fuzz/fuzzer.ts';
import { BrokerWatch } from './fuzz/broker-watch.ts';
import { faultsOf } from './fuzz/report.ts';
import { leave } from './fuzz/raw-exchange.ts';
import { FuzzSite } from './fuzz/site.ts';
import { Pair } from './pair/pair.ts';

const durationMs = 60_000;

test('the socket of a client that leaves while its FIN is on the way is closed', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const errors: Error[] = [];
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', (error) => errors.push(error));
  await once(socket, 'connect');
  const closed = once(socket, 'close');
  socket.end();
  leave(socket);
  await closed;
  server.close();
  expect(errors).toEqual([]);
});

async function fuzz(database: TestDatabase, broker: BrokerProcess): Promise<void> {
  const watch = new BrokerWatch(broker);
  const pair = await Pair.start(broker.grpcAddress, { brokerPid: broker.pid, databaseUrl: database.url });
  const site = await FuzzSite.open(broker);
  try {
    const seed = process.pid;
    const untilMs = performance.now() + durationMs;
    await pair.mark();
    const result = await new Fuzzer(site, {
      seed,
      first: 0,
      atOnce: 24,
      generators: allGenerators,
      goesOn: () => watch.isAlive && performance.now() < untilMs,
      onProgress: () => undefined,
      onComplaint: (text) => console.log(text),
      show: null,
    }).run();
    console.log(`fuzzed with seed ${seed}: ${result.requests} requests, database ${database.name}`);
    const replay = `node test/hostile/fuzz.ts --replay ${seed}:INDEX`;
    expect(await faultsOf(result, site, watch, pair), replay).toEqual([]);
    expect(result.requests).toBeGreaterThan(1_000);
  } finally {
    site.close();
    await pair.stop();
  }
}

test('no request that is broken in any way gets an answer that nobody foresaw', { timeout: 240_000 }, async () => {
  const database = await createMigratedDatabase();
  const broker = await startBroker({ databaseUrl: database.url });
  try {
    await fuzz(database, broker);
  } finally {
    broker.kill('SIGKILL');
    await broker.exited;
    await database.drop();
  }
});
