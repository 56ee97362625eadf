import { createServer, type AddressInfo } from 'node:net';
import { Registry } from 'prom-client';
import { limits } from '../../../src/limits/limits.ts';
import { createRpcServers } from '../../../src/rpc/servers.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { FakeBroker } from '../fake-broker.ts';

/**
 * A process that serves both edges, and collects its garbage whenever a third port reads something,
 * which is where a busy broker does: between the reads of one turn of its event loop.
 */
const collect = globalThis.gc;
if (collect === undefined) throw new Error('to be run with --expose-gc');
const servers = createRpcServers({
  services: () => new FakeBroker(),
  defaultRetentionMs: limits.afterCompletionMsDefault,
  account: roomyAccount(),
  limits,
  ready: () => ({ ok: true, role: 'active', reasons: [] }),
  numbers: { families: () => Promise.resolve([]), detail: () => Promise.resolve([]) },
  metrics: new Registry(),
  log: { error: () => undefined, warn: () => undefined },
  clock: systemClock,
  random: systemRandom,
});
const collector = createServer((socket) => {
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    void collect({ type: chunk.includes('minor') ? 'minor' : 'major', execution: 'sync' });
  });
});
await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
process.send?.({
  gRPC: await servers.startGrpc('127.0.0.1', 0),
  HTTP: await servers.startHttp('127.0.0.1', 0),
  collector: (collector.address() as AddressInfo).port,
});
// Each turn takes what has arrived in the meantime, so that an attack and a collection share one.
const cells = new Int32Array(new SharedArrayBuffer(4));
setInterval(() => Atomics.wait(cells, 0, 0, 5), 1);
process.on('disconnect', () => process.exit());
