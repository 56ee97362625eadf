import { Registry } from 'prom-client';
import { onTestFinished } from 'vitest';
import { limits } from '../../src/limits/limits.ts';
import { createRpcServers, type RpcServers } from '../../src/rpc/servers.ts';
import { systemClock, systemRandom } from '../../src/time/system.ts';
import { roomyAccount } from '../account/accounts.ts';
import { FakeBroker } from './fake-broker.ts';

export interface Serving {
  readonly broker: FakeBroker;
  readonly servers: RpcServers;
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly httpUrl: string;
  /** What was logged. */
  readonly bugs: Record<string, unknown>[];
}

/** Both edges over a fake broker on ports of their own, stopped at the end of the test. */
export async function serve(overrides: Partial<Parameters<typeof createRpcServers>[0]> = {}): Promise<Serving> {
  const broker = new FakeBroker();
  broker.addTopic('orders');
  const bugs: Record<string, unknown>[] = [];
  const servers = createRpcServers({
    services: () => broker,
    account: roomyAccount(),
    limits,
    defaultRetentionMs: limits.afterCompletionMsDefault,
    ready: () => ({ ok: true, role: 'active', reasons: [] }),
    numbers: { families: () => Promise.resolve([]), detail: () => Promise.resolve([]) },
    metrics: new Registry(),
    log: { error: (entry: Record<string, unknown>) => bugs.push(entry), warn: () => undefined },
    clock: systemClock,
    random: systemRandom,
    ...overrides,
  });
  const grpcPort = await servers.startGrpc('127.0.0.1', 0);
  const httpPort = await servers.startHttp('127.0.0.1', 0);
  onTestFinished(() => servers.stop(0));
  return { broker, servers, grpcPort, httpPort, httpUrl: `http://127.0.0.1:${httpPort}`, bugs };
}
