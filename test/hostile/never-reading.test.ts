import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, constants, type ClientHttp2Stream } from 'node:http2';
import { toBinary, create, type MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { BrokerService, SubscribeRequestSchema, type SubscribeRequest } from '../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../gen/millrace/v1/group_pb.js';
import { waitFor } from '../../bench/support/timing.ts';
import { Member } from '../broker/member.ts';
import { Site } from '../broker/site.ts';
import { framed, openCall } from '../rpc/raw-call.ts';

const timeout = 120_000;
const path = '/millrace.v1.BrokerService/Subscribe';
const earliest = { position: { case: 'earliest' as const, value: {} } };
let site: Site;

beforeAll(async () => {
  site = await Site.open({ flags: ['--slow-reader-ms', '6000', '--partitions-max', '5000'] });
}, timeout);
afterAll(() => site.close());

type Request = Exclude<MessageInitShape<typeof SubscribeRequestSchema>, SubscribeRequest>;

/** A Subscribe on a connection whose window is 0, so that no event ever arrives. */
function subscribeUnread(port: number, contentType: string, request: Request): ClientHttp2Stream {
  const session = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 } });
  session.on('error', () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  const stream = openCall(session, path, { 'content-type': contentType });
  const message = toBinary(SubscribeRequestSchema, create(SubscribeRequestSchema, { start: earliest, ...request }));
  stream.end(framed(Buffer.from(message)));
  return stream.resume();
}

const members = async (group: string) => (await site.call(GroupService.method.getGroup, { group })).members;

test.each([
  ['gRPC', 'application/grpc', () => site.broker.grpcPort],
  ['HTTP', 'application/connect+proto', () => site.broker.httpPort],
])(
  'a stream over %s whose client never reads ends, and its records go to the next member as the same attempt',
  { timeout },
  async (edge, contentType, port) => {
    const topic = `orders-${edge}`;
    await site.createTopic(topic, 1);
    await site.call(BrokerService.method.publish, { topic, records: [{ value: Buffer.alloc(100, 'x') }] });
    const stream = subscribeUnread(port(), contentType, { group: edge, topics: [topic] });
    const closed = once(stream, 'close');
    await waitFor('the member is there', 10_000, 20, async () => (await members(edge).catch(() => [])).length === 1);
    await closed;
    expect(stream.rstCode).not.toBe(constants.NGHTTP2_NO_ERROR);
    expect(await members(edge)).toEqual([]);
    const next = new Member(site.broker.grpcAddress, { group: edge, topics: [topic] });
    await next.untilReceived(1);
    expect(next.received[0]).toMatchObject({ offset: 0, attempt: 1 });
    next.leave();
    expect(site.broker.output()).not.toMatch(/bugId|INTERNAL/);
  },
);

test(
  'a member of 10,000 partitions that never reads costs nothing while its group rebalances',
  { timeout },
  async () => {
    const topics = ['a', 'b'].map((letter) => letter.repeat(200));
    for (const topic of topics) await site.createTopic(topic, 5_000);
    const options = { group: 'wide', topics, sessionTimeout: { seconds: 60n } };
    const stream = subscribeUnread(site.broker.grpcPort, 'application/grpc', options);
    await waitFor('the member is there', 30_000, 50, async () => (await members('wide').catch(() => [])).length === 1);
    const rebalance = async (): Promise<void> => {
      const other = new Member(site.broker.grpcAddress, { group: 'wide', topics });
      await waitFor('the other member has partitions', 30_000, 20, () => other.partitions.length > 0);
      other.leave();
      await waitFor('the other member has left', 30_000, 20, async () => (await members('wide')).length === 1);
    };
    await rebalance();
    const before = residentMib();
    for (let round = 0; round < 15; round++) await rebalance();
    expect(residentMib() - before).toBeLessThan(60);
    stream.destroy();
  },
);

function residentMib(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${site.broker.pid}/status`, 'utf8'))![1]) / 1_024;
}
