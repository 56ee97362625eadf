import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect as connectGrpc, methodPath, openDuplexStream } from '../../../bench/client/service-client.ts';
import { BrokerService, type PublishStreamResponse } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { subscribeOverConnect } from '../connect-stream.ts';
import { Member } from '../member.ts';
import { Relay } from '../relay.ts';
import { Site } from '../site.ts';

const { publish, publishStream } = BrokerService.method;

let site: Site;
let toGrpc: Relay;
let toHttp: Relay;
let members: Member[] = [];
let topic = '';
let group = '';
let tests = 0;
beforeAll(async () => {
  site = await Site.open();
});
beforeEach(async () => {
  tests++;
  topic = `orders-${tests}`;
  group = `group-${tests}`;
  toGrpc = await Relay.open(site.broker.grpcPort);
  toHttp = await Relay.open(site.broker.httpPort);
  await site.createTopic(topic);
  await site.publish(topic, 0, ['a0', 'a1', 'a2']);
  await site.publish(topic, 1, ['b0', 'b1', 'b2']);
});
afterEach(async () => {
  for (const member of members) member.leave();
  members = [];
  await Promise.all([toGrpc.close(), toHttp.close()]);
});
afterAll(async () => {
  await site.close();
});

function join(request: object = {}, address = site.broker.grpcAddress): Member {
  const member = new Member(address, { group, topics: [topic], ...request });
  members.push(member);
  return member;
}

function expectAllAgain(member: Member, attempt: number): void {
  const wanted = [0, 1].flatMap((partition) => [0, 1, 2].map((offset) => ({ partition, offset, attempt })));
  const got = member.received.map(({ partition, offset, attempt }) => ({ partition, offset, attempt }));
  expect(got.sort((a, b) => a.partition - b.partition || a.offset - b.offset)).toEqual(wanted);
}

describe('a second stream for the same member', () => {
  test('a second stream of a member ends the first with REPLACED, and receives un-acked records with the same attempt', async () => {
    const sessionTimeout = { seconds: 30n, nanos: 0 };
    const first = await join({ sessionTimeout }).untilReceived(6);
    expect(await first.ack(0, { upToOffset: 0n })).toEqual(['OK', 1n]);
    const second = await join({ memberId: first.memberId }).untilReceived(5);
    expect(await first.untilRefused()).toMatchObject({ code: 'ABORTED', reason: 'REPLACED' });
    expect(first.refusal!.message).toContain(first.memberId);
    expect(second.memberId).toBe(first.memberId);
    expect(second.of(0)).toEqual([1, 2]);
    expect(second.of(1)).toEqual([0, 1, 2]);
    expect(second.received.every(({ attempt }) => attempt === 1)).toBe(true);
    const { members: known } = await site.call(GroupService.method.getGroup, { group });
    expect(known.map(({ memberId }) => memberId)).toEqual([first.memberId]);
    expect(await second.ack(1, { upToOffset: 2n })).toEqual(['OK', 3n]);
  });
});

describe('a client that vanishes in the middle of its stream', () => {
  test('records of a client that vanished over gRPC reach the remaining member, as the next attempt', async () => {
    await join({}, toGrpc.address).untilReceived(6);
    const left = join();
    await expect.poll(() => left.memberId).not.toBe('');
    toGrpc.cut();
    expectAllAgain(await left.untilReceived(6), 2);
    expect(left.partitions).toEqual([0, 1]);
  });

  test('records of a client that vanished over Connect reach the remaining member', async () => {
    await subscribeOverConnect(toHttp.address, { group, topics: [topic], start: { earliest: {} } });
    const left = join();
    await expect.poll(() => left.memberId).not.toBe('');
    toHttp.cut();
    await left.untilPartitions(0, 1);
    await left.untilReceived(6);
    expect([left.of(0), left.of(1)]).toEqual([
      [0, 1, 2],
      [0, 1, 2],
    ]);
  });

  test('a lost member keeps its partitions for its session timeout, and receives everything when it returns', async () => {
    const sessionTimeout = { seconds: 30n, nanos: 0 };
    const first = await join({ sessionTimeout }, toGrpc.address).untilReceived(6);
    toGrpc.cut();
    const back = await join({ memberId: first.memberId }).untilReceived(6);
    expectAllAgain(back, 1);
  });
});

describe('a publisher that vanishes', () => {
  test('a publisher lost in the middle of a request appends none of it', async () => {
    const socket = connect(site.broker.httpPort, '127.0.0.1');
    const body = JSON.stringify({ topic, partition: 0, records: [{ value: '' }, { value: '' }] });
    socket.write(
      `POST ${methodPath(publish)} HTTP/1.1\r\nhost: here\r\n` +
        `content-type: application/json\r\ncontent-length: ${body.length + 1}\r\n\r\n${body}`,
    );
    await once(socket, 'connect');
    socket.destroy();
    await once(socket, 'close');
    expect(await site.publish(topic, 0, ['next'])).toEqual([3]);
  });

  test('a publisher lost in the middle of a PublishStream loses no answered record', async () => {
    const client = connectGrpc(toGrpc.address);
    const stream = openDuplexStream(client, publishStream);
    let answered = 0;
    const ended = once(
      stream.on('data', ({ results }: PublishStreamResponse) => (answered += results.length)),
      'error',
    );
    for (let n = 0; n < 1_000; n++) stream.write({ topic, partition: 0, records: [{ value: Buffer.from(`s${n}`) }] });
    await expect.poll(() => answered, { interval: 1 }).toBeGreaterThan(50);
    toGrpc.cut();
    await ended;
    client.close();
    const from = { case: 'offset' as const, value: 3n };
    const { batches } = await site.call(MessageService.method.readMessages, { topic, from, maxRecords: 10_000 });
    const values = batches.flatMap(({ records }) => records).map(({ record }) => Buffer.from(record!.value).toString());
    expect(values.length).toBeGreaterThanOrEqual(answered);
    expect(values).toEqual(values.map((_, n) => `s${n}`));
    // What it had sent besides may still be appended: the topic goes, so that the last test need
    // not guess.
    await site.deleteTopic(topic);
  });
});

test('the log has every confirmed record and no other after clients were lost', async () => {
  await site.expectAllThere();
});
