import { readFileSync } from 'node:fs';
import { connect, constants, type ClientHttp2Stream } from 'node:http2';
import { toBinary, create, type MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BrokerService, SubscribeRequestSchema, type SubscribeRequest } from '../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../gen/millrace/v1/group_pb.js';
import { waitFor } from '../../bench/support/timing.ts';
import { Member } from '../broker/member.ts';
import type { Site } from '../broker/site.ts';
import { closed, framed, openCall } from '../rpc/raw-call.ts';
import { contentTypeOf, edges, pathOf, portOf, type EdgeName } from './calls.ts';
import { HostileSite } from './hostile-site.ts';

const timeout = 240_000;
const method = BrokerService.method.subscribe;
const earliest = { position: { case: 'earliest' as const, value: {} } };
let hostile: HostileSite;

beforeAll(async () => {
  hostile = await HostileSite.open({ flags: ['--slow-reader-ms', '6000', '--partitions-max', '5000'] });
}, timeout);
afterAll(() => hostile.close(), timeout);

type Request = Exclude<MessageInitShape<typeof SubscribeRequestSchema>, SubscribeRequest>;

/** A Subscribe on a connection whose window is 0, so that no event ever arrives. */
function subscribeUnread(port: number, contentType: string, request: Request): ClientHttp2Stream {
  const session = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 } });
  session.on('error', () => undefined);
  const stream = openCall(session, pathOf(method), { 'content-type': contentType });
  const message = toBinary(SubscribeRequestSchema, create(SubscribeRequestSchema, { start: earliest, ...request }));
  stream.end(framed(Buffer.from(message)));
  stream.once('close', () => {
    session.destroy();
  });
  return stream.resume();
}

const members = async (site: Site, group: string) => (await site.call(GroupService.method.getGroup, { group })).members;

/** Names for an attack that is repeated. */
let attacks = 0;

async function expectGivenOn(site: Site, edge: EdgeName): Promise<void> {
  const name = `unread-${(attacks += 1)}`;
  await site.createTopic(name, 1);
  await site.publish(name, 0, ['x'.repeat(100)]);
  const contentType = contentTypeOf(edge, method);
  const stream = subscribeUnread(portOf(site.broker, edge), contentType, { group: name, topics: [name] });
  const over = closed(stream);
  const isThere = async () => (await members(site, name).catch(() => [])).length === 1;
  await waitFor('the member is there', 60_000, 20, isThere);
  await over;
  expect(stream.rstCode).not.toBe(constants.NGHTTP2_NO_ERROR);
  expect(await members(site, name)).toEqual([]);
  const next = new Member(site.broker.grpcAddress, { group: name, topics: [name] });
  await next.untilReceived(1, 60_000);
  expect(next.received[0]).toMatchObject({ offset: 0, attempt: 1 });
  next.leave();
}

test(
  'streams of both edges whose clients never read end, and their records go to the next members as the same attempt',
  { timeout },
  async () => {
    await hostile.attack(async (site) => {
      await Promise.all(edges.map((edge) => expectGivenOn(site, edge)));
    });
  },
);

test(
  'a member of 10,000 partitions that never reads costs nothing while its group rebalances',
  { timeout },
  async () => {
    await hostile.attack(async (site) => {
      const group = `wide-${(attacks += 1)}`;
      const topics = ['a', 'b'].map((letter) => letter.repeat(190) + attacks);
      for (const topic of topics) await site.createTopic(topic, 5_000);
      const options = { group, topics, sessionTimeout: { seconds: 60n } };
      const stream = subscribeUnread(site.broker.grpcPort, contentTypeOf('grpc', method), options);
      const memberCount = async () => (await members(site, group).catch(() => [])).length;
      await waitFor('the member is there', 60_000, 50, async () => (await memberCount()) === 1);
      const rebalance = async (): Promise<void> => {
        const other = new Member(site.broker.grpcAddress, { group, topics });
        await waitFor('the other member has partitions', 60_000, 20, () => other.partitions.length > 0);
        other.leave();
        await waitFor('the other member has left', 60_000, 20, async () => (await memberCount()) === 1);
      };
      await rebalance();
      const before = residentMib(site);
      for (let round = 0; round < 15; round++) await rebalance();
      expect(residentMib(site) - before).toBeLessThan(60);
      stream.destroy();
      for (const topic of topics) await site.deleteTopic(topic);
    });
  },
);

function residentMib({ broker }: Site): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${broker.pid}/status`, 'utf8'))![1]) / 1_024;
}
