import { once } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { gzipSync } from 'node:zlib';
import type { Server } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { PublishRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { ConnectionAccounts } from '../../../src/rpc/connections/connection-accounts.ts';
import { Connections } from '../../../src/rpc/connections/connections.ts';
import { Http2Sessions } from '../../../src/rpc/grpc/http2-sessions.ts';
import { OpenCalls } from '../../../src/rpc/grpc/open-call.ts';
import { StreamGate } from '../../../src/rpc/grpc/stream-gate.ts';
import { roomyAccount, smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { encode } from '../grpc-client.ts';
import { answerOf, framed, openCall, rawSession } from '../raw-call.ts';
import { serve } from '../serving.ts';

const publishPath = '/millrace.v1.BrokerService/Publish';
const publish = encode(PublishRequestSchema, { topic: 'orders', records: [{ value: Buffer.from('hello') }] });

/** An account with room for so many calls. */
const callsMax = (count: number) => smallAccount({ streams: count * limits.openCallBytes });

/** Everything that was sent before has been received by the server. */
function received(session: ClientHttp2Session): Promise<void> {
  return new Promise((resolve) => {
    session.ping(() => {
      resolve();
    });
  });
}

describe('a request that is refused by its headers', () => {
  test('a compressed request is refused with a reason, and is not unpacked', async () => {
    const { broker, bugs, grpcPort } = await serve();
    const session = rawSession(grpcPort);
    for (const encoding of ['gzip', 'deflate', 'snappy']) {
      const call = openCall(session, publishPath, { 'grpc-encoding': encoding });
      call.end(framed(gzipSync(publish), 1));
      expect(await answerOf(call)).toMatchObject({ httpStatus: 200, code: 12, reason: 'COMPRESSION_REFUSED' });
    }
    const plain = openCall(session, publishPath, { 'grpc-encoding': 'identity' });
    plain.end(framed(publish));
    expect(await answerOf(plain)).toMatchObject({ code: 0 });
    expect([broker.published.length, bugs]).toEqual([1, []]);
  });

  test('the broker offers no compression that it would refuse', async () => {
    const { grpcPort } = await serve();
    const call = openCall(rawSession(grpcPort), publishPath);
    call.end(framed(publish));
    const [headers] = (await once(call.resume(), 'response')) as [Record<string, string>];
    expect(headers['grpc-accept-encoding']).toBe('identity');
  });

  test('an unknown method is refused with a reason', async () => {
    const { grpcPort } = await serve();
    const call = openCall(rawSession(grpcPort), '/millrace.v1.BrokerService/Nothing');
    expect(await answerOf(call)).toMatchObject({ httpStatus: 200, code: 12, reason: 'UNIMPLEMENTED_METHOD' });
  });

  test('a request that is not of gRPC is refused by its type', async () => {
    const { grpcPort } = await serve();
    const session = rawSession(grpcPort);
    for (const type of ['application/json', 'application/grpc-web', 'application/grpcx']) {
      const call = openCall(session, publishPath, { 'content-type': type });
      expect(await answerOf(call)).toMatchObject({ httpStatus: 415 });
    }
  });

  test.each(['5', 'S', 'x5Sy', '-1S', '123456789S', '5 S', '1S, 2S'])(
    'the malformed timeout %s is refused with a reason, and is not an internal error',
    async (given) => {
      const { grpcPort } = await serve();
      const call = openCall(rawSession(grpcPort), publishPath, { 'grpc-timeout': given });
      expect(await answerOf(call)).toMatchObject({ code: 3, reason: 'MALFORMED_REQUEST' });
    },
  );

  test.each(['597H', '99999999H', '99999999M', '99999999S'])(
    'the timeout %s, longer than a timer can be, does not end the call at once',
    async (given) => {
      const { broker, grpcPort } = await serve();
      const session = rawSession(grpcPort);
      const call = openCall(session, publishPath, { 'grpc-timeout': given });
      const answer = answerOf(call);
      // A timer that overflows fires within a millisecond, before the answers to these.
      for (let pings = 0; pings < 10; pings += 1) await received(session);
      call.end(framed(publish));
      expect(await answer).toMatchObject({ code: 0 });
      expect(broker.published).toHaveLength(1);
    },
  );
});

describe('calls that are opened and left open', () => {
  test('a connection may have so many of them, and its client knows how many', async () => {
    const { grpcPort, httpPort } = await serve();
    for (const [port, callsMax] of [
      [grpcPort, limits.grpcConnectionCallsMax],
      [httpPort, limits.httpConnectionCallsMax],
    ] as const) {
      const session = rawSession(port);
      await once(session, 'remoteSettings');
      expect(session.remoteSettings.maxConcurrentStreams).toBe(callsMax);
    }
  });

  test('over gRPC a call beyond those of all connections is refused, and each that ends makes room for one', async () => {
    const { grpcPort } = await serve({ account: callsMax(3) });
    const sessions = [rawSession(grpcPort), rawSession(grpcPort)] as const;
    for (let round = 0; round < 20; round += 1) {
      const open = [0, 1, 0].map((index) => openCall(sessions[index as 0 | 1], publishPath));
      await Promise.all(sessions.map(received));
      expect(await answerOf(openCall(sessions[1], publishPath))).toMatchObject({ code: 8, reason: 'BROKER_BUSY' });
      // One is cancelled, one is answered, and one fails.
      const ended = open.map(answerOf);
      open[0]!.close();
      open[1]!.end(framed(publish));
      open[2]!.end(framed(Buffer.from([0x0a, 0xff])));
      expect((await Promise.all(ended)).map(({ code }) => code)).toEqual([NaN, 0, 3]);
      await Promise.all(sessions.map(received));
    }
  });

  test('over gRPC a connection that breaks gives back the room of all its calls', async () => {
    const { grpcPort } = await serve({ account: callsMax(3) });
    for (let round = 0; round < 20; round += 1) {
      const broken = rawSession(grpcPort);
      for (let count = 0; count < 3; count += 1) openCall(broken, publishPath);
      await received(broken);
      broken.destroy();
      const next = rawSession(grpcPort);
      const taken = async () => {
        const call = openCall(next, publishPath);
        call.end(framed(publish));
        return (await answerOf(call)).code;
      };
      await expect.poll(taken).toBe(0);
      next.destroy();
    }
  });

  test('over HTTP a call beyond those of all connections is refused, and operators are still served', async () => {
    const account = smallAccount({ streams: limits.openHttpCallBytes });
    const { broker, grpcPort, httpUrl } = await serve({ account });
    const call = () =>
      fetch(`${httpUrl}${publishPath}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"topic":"orders","records":[{"value":"aGVsbG8="}]}',
      });
    const session = rawSession(grpcPort);
    const open = openCall(session, publishPath);
    await received(session);
    const refused = await call();
    expect([refused.status, refused.headers.get('millrace-reason')]).toEqual([429, 'BROKER_BUSY']);
    expect(await refused.json()).toMatchObject({ code: 'resource_exhausted' });
    expect((await fetch(`${httpUrl}/readyz`)).status).toBe(200);
    const closed = answerOf(open);
    open.end(framed(publish));
    await closed;
    await expect.poll(async () => (await call()).status).toBe(200);
    expect(broker.published.length).toBeGreaterThan(1);
  });
});

test('a grpc-js without the fields that the limits need does not start', () => {
  const account = roomyAccount();
  const gate = new StreamGate({
    paths: new Set(),
    accounts: new ConnectionAccounts(account),
    calls: new OpenCalls(new FakeClock()),
    reportBug: () => '',
  });
  const log = { warn: () => undefined };
  const sessions = new Http2Sessions(gate, new Connections({ account, clock: new FakeClock(), log }));
  const other = {} as Server;
  expect(() => {
    sessions.prepare(other);
  }).toThrow('commonServerOptions');
  expect(() => {
    sessions.attach(other);
  }).toThrow('http2Servers');
});
