import { once } from 'node:events';
import { connect, type ClientHttp2Session } from 'node:http2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, connect as connectGrpc, methodPath } from '../../bench/client/service-client.ts';
import { startBroker, type BrokerProcess } from '../../bench/support/broker-process.ts';
import { BrokerService, PullRequestSchema, SubscribeRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { connectionHeapBytes } from '../../src/account/kinds.ts';
import { limits } from '../../src/limits/limits.ts';
import { encode } from '../rpc/grpc-client.ts';
import { framed } from '../rpc/raw-call.ts';
import { createMigratedDatabase, type TestDatabase } from '../support/database.ts';

/**
 * Compares what the account counts for an open call with the heap of a broker process, because
 * nearly all of it belongs to the transport.
 */

/** As many as one connection of HTTP may have. */
const many = 100;
const aboveMax = 1.6;
const start = { position: { case: 'earliest', value: {} } } as const;
const sessionTimeout = { seconds: 600n };
const wait = { seconds: 60n };

let database: TestDatabase;
let broker: BrokerProcess;
let inspector: WebSocket;

beforeAll(async () => {
  database = await createMigratedDatabase();
  broker = await startBroker({ databaseUrl: database.url, nodeFlags: ['--inspect=127.0.0.1:0'] });
  const [url] = /ws:\/\/\S+/.exec(broker.output()) ?? [];
  inspector = new WebSocket(url!);
  await once(inspector, 'open');
  const client = connectGrpc(broker.grpcAddress);
  await call(client, TopicService.method.createTopic, { topic: { name: 'orders', partitions: 1 } });
  client.close();
}, 120_000);

afterAll(async () => {
  inspector.close();
  broker.kill('SIGKILL');
  await broker.exited;
  await database.drop();
});

interface Told {
  readonly id?: number;
  readonly result?: { readonly usedSize?: number };
}

let asked = 0;
async function inspect(method: string): Promise<Told['result']> {
  const id = ++asked;
  inspector.send(JSON.stringify({ id, method }));
  for (;;) {
    const [{ data }] = (await once(inspector, 'message')) as [{ readonly data: string }];
    const told = JSON.parse(data) as Told;
    if (told.id === id) return told.result;
  }
}

/** The least of some looks, because what a collection frees may be freed after it. */
async function usedBytes(): Promise<number> {
  let used = Infinity;
  for (let steady = 0; steady < 3;) {
    await inspect('HeapProfiler.collectGarbage');
    const now = (await inspect('Runtime.getHeapUsage'))!.usedSize!;
    steady = now >= used - 10_000 ? steady + 1 : 0;
    used = Math.min(used, now);
  }
  return used;
}

/** How many bytes the account counts, of a pool or of the open calls. */
async function counted(what: 'pool="kept"' | 'kind="streams"'): Promise<number> {
  const metrics = await (await fetch(`${broker.httpUrl}/metrics`)).text();
  return Number(new RegExp(`^millrace_account_(?:pool_)?bytes\\{${what}\\} (\\d+)`, 'm').exec(metrics)![1]);
}

interface Shape {
  readonly path: string;
  readonly type: string;
  /** The request of the nth member of a group. */
  readonly body: (group: string, n: number) => Buffer;
}

/** Opens calls of so many members. Resolves when the broker counts all of them. */
async function opened(session: ClientHttp2Session, { path, type, body }: Shape, bytesEach: number): Promise<void> {
  const bytes = (await counted('kind="streams"')) + many * bytesEach;
  const group = `group-${++groups}`;
  for (let n = 0; n < many; n++) {
    const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': type, te: 'trailers' });
    stream.on('error', () => undefined).resume();
    stream.end(body(group, n));
  }
  await expect.poll(() => counted('kind="streams"'), { timeout: 60_000 }).toBe(bytes);
  // All of them have joined, and wait.
  let kept = 0;
  await expect
    .poll(async () => kept === (kept = await counted('pool="kept"')) && kept > 0, { interval: 500, timeout: 60_000 })
    .toBe(true);
}
let groups = 0;

const member = (group: string, n: number) => ({ group, topics: ['orders'], start, clientId: `client-${n}` });
const subscribe = (group: string, n: number): Buffer => framed(encode(SubscribeRequestSchema, member(group, n)));
const pull = (group: string, n: number): Buffer =>
  encode(PullRequestSchema, { ...member(group, n), groupInstanceId: `${n}`, wait, sessionTimeout });
const subscribePath = methodPath(BrokerService.method.subscribe);
const pullPath = methodPath(BrokerService.method.pull);

test.each<[string, number, 'grpc' | 'http', Shape]>([
  [
    'a stream over gRPC',
    limits.openCallBytes,
    'grpc',
    { path: subscribePath, type: 'application/grpc', body: subscribe },
  ],
  [
    'a pull over gRPC',
    limits.openCallBytes,
    'grpc',
    { path: pullPath, type: 'application/grpc', body: (group, n) => framed(pull(group, n)) },
  ],
  ['a pull over HTTP', limits.openHttpCallBytes, 'http', { path: pullPath, type: 'application/proto', body: pull }],
  [
    'a stream over HTTP',
    limits.openHttpStreamBytes,
    'http',
    { path: subscribePath, type: 'application/connect+proto', body: subscribe },
  ],
])('%s weighs more than is counted, or much less', { timeout: 180_000 }, async (_what, weight, edge, shape) => {
  const url = edge === 'grpc' ? `http://${broker.grpcAddress}` : broker.httpUrl;
  const sessions: ClientHttp2Session[] = [];
  const openMore = async (): Promise<void> => {
    const session = connect(url);
    sessions.push(session);
    session.on('error', () => undefined);
    await once(session, 'connect');
    await opened(session, shape, weight);
  };
  // The first calls of a kind leave compiled code and caches behind.
  await openMore();
  const before = [await usedBytes(), await counted('pool="kept"')] as const;
  for (let n = 0; n < 3; n++) await openMore();
  const after = [await usedBytes(), await counted('pool="kept"')] as const;
  const bytes = (after[0] - before[0] - (after[1] - before[1])) / (3 * many);
  for (const session of sessions) session.destroy();
  await expect.poll(() => counted('kind="streams"'), { timeout: 60_000 }).toBe(0);
  expect(bytes, 'bytes on the heap').toBeLessThanOrEqual(weight);
  expect(weight, 'the weight').toBeLessThanOrEqual(aboveMax * bytes);
});

test.each(['grpc', 'http'] as const)(
  'a connection to the edge of %s takes more of the heap than is left for it',
  { timeout: 180_000 },
  async (edge) => {
    const sessions: ClientHttp2Session[] = [];
    const openMore = async (count: number): Promise<void> => {
      for (let n = 0; n < count; n++) {
        const session = connect(edge === 'grpc' ? `http://${broker.grpcAddress}` : broker.httpUrl);
        sessions.push(session);
        session.on('error', () => undefined);
        await once(session, 'connect');
        await new Promise((resolve) => session.ping(resolve));
      }
    };
    await openMore(100);
    const before = await usedBytes();
    await openMore(300);
    const bytes = ((await usedBytes()) - before) / 300;
    for (const session of sessions) session.destroy();
    expect(bytes, 'bytes on the heap').toBeLessThanOrEqual(connectionHeapBytes);
    expect(connectionHeapBytes, 'the weight').toBeLessThanOrEqual(2 * bytes);
  },
);
