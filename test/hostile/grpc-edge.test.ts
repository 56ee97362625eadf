import { connect, type ClientHttp2Stream } from 'node:http2';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PullRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import { Health, HealthCheckRequestSchema } from '../../gen/grpc/health/v1/health_pb.js';
import { ServerReflectionRequestSchema } from '../../gen/grpc/reflection/v1/reflection_pb.js';
import { ReadMessagesRequestSchema } from '../../gen/millrace/v1/message_pb.js';
import { encode } from '../rpc/grpc-client.ts';
import { answerOf, closed, framed, openCall, rawSession } from '../rpc/raw-call.ts';
import { bareConnection, callHeaders, frame } from './frames/frames.ts';
import { HostileSite } from './hostile-site.ts';

const publishPath = '/millrace.v1.BrokerService/Publish';
const pullPath = '/millrace.v1.BrokerService/Pull';
const readPath = '/millrace.v1.MessageService/ReadMessages';
const reflectionPath = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
const timeout = 240_000;
let hostile: HostileSite;

beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

const allAnswered = (calls: readonly ClientHttp2Stream[]) => Promise.all(calls.map((call) => answerOf(call)));

test('hundreds of requests of 4 MB without their last byte', { timeout }, async () => {
  await hostile.attack(async (site) => {
    const most = framed(Buffer.alloc(4_000_000)).subarray(0, -1);
    const sessions = Array.from({ length: 10 }, () => rawSession(site.broker.grpcPort));
    const written = sessions.flatMap((session) =>
      Array.from({ length: 25 }, async () => {
        const call = openCall(session, publishPath);
        // Taken whole, or refused.
        const ended = closed(call.resume());
        await Promise.race([ended, new Promise((resolve) => call.write(most, resolve))]);
      }),
    );
    await Promise.all(written);
    for (const session of sessions) session.destroy();
  });
});

test(
  'hundreds of calls that wait, each with megabytes that the broker does not know in its request',
  { timeout },
  async () => {
    await hostile.attack(async (site) => {
      const pull = { group: 'waiting', topics: ['orders'], wait: { seconds: 20n } };
      // Field 2,000, of 4,000,000 bytes.
      const unknown = Buffer.concat([Buffer.from([0x82, 0x7d, 0x80, 0x92, 0xf4, 0x01]), Buffer.alloc(4_000_000)]);
      const request = framed(Buffer.concat([encode(PullRequestSchema, pull), unknown]));
      const session = rawSession(site.broker.grpcPort);
      for (let sent = 0; sent < 200; sent += 1) {
        const call = openCall(session, pullPath);
        call.resume();
        await new Promise<void>((resolve) => call.end(request, resolve));
      }
      session.destroy();
    });
  },
);

test('hundreds of compressed requests that unpack to a thousand times their size', { timeout }, async () => {
  await hostile.attack(async (site) => {
    const bomb = framed(gzipSync(Buffer.alloc(4_190_000)), 1);
    const three = Buffer.concat([bomb, bomb, bomb]);
    const session = rawSession(site.broker.grpcPort);
    const calls = Array.from({ length: 400 }, () => {
      const call = openCall(session, publishPath, { 'grpc-encoding': 'gzip' });
      call.end(three);
      return call;
    });
    await allAnswered(calls);
  });
});

test('hundreds of watches of services with names of a megabyte', { timeout }, async () => {
  await hostile.attack(async (site) => {
    const question = framed(encode(HealthCheckRequestSchema, { service: 'x'.repeat(900_000) }));
    const session = rawSession(site.broker.grpcPort);
    for (let round = 0; round < 268; round += 1) {
      const call = openCall(session, `/${Health.typeName}/Watch`);
      call.end(question);
      await allAnswered([call]);
    }
  });
});

test('tens of thousands of questions to reflection whose answers nobody reads', { timeout }, async () => {
  await hostile.attack(async (site) => {
    const messageRequest = { case: 'fileContainingSymbol', value: 'millrace.v1.BrokerService' } as const;
    const question = framed(encode(ServerReflectionRequestSchema, { messageRequest }));
    const headers = callHeaders(reflectionPath, 'application/grpc');
    const questions = Buffer.concat(Array.from({ length: 100 }, () => question));
    // No window is ever opened, and nothing is read from the socket.
    const socket = await bareConnection(site.broker.grpcPort);
    socket.pause();
    socket.write(frame(1, 4, 1, headers));
    for (let sent = 0; sent < 40_000; sent += 100) socket.write(frame(0, 0, 1, questions));
    // The broker has had the time to answer when it has answered somebody else a thousand times.
    const session = rawSession(site.broker.grpcPort);
    for (let turn = 0; turn < 1_000; turn += 1) {
      await new Promise((resolve) => {
        session.ping(resolve);
      });
    }
    socket.destroy();
  });
});

test(
  'hundreds of streams of questions to reflection, and of large reads, whose answers nobody reads',
  { timeout },
  async () => {
    await hostile.attack(async (site) => {
      const offsets = await site.publish(
        'orders',
        0,
        Array.from({ length: 4 }, () => 'x'.repeat(900_000)),
      );
      expect(offsets.length).toBe(4);
      const noWindow = { settings: { initialWindowSize: 0 } };
      const sessions = Array.from({ length: 8 }, () => connect(`http://127.0.0.1:${site.broker.grpcPort}`, noWindow));
      const messageRequest = { case: 'fileContainingSymbol', value: 'millrace.v1.BrokerService' } as const;
      const question = framed(encode(ServerReflectionRequestSchema, { messageRequest }));
      const questions = Buffer.concat(Array.from({ length: 100 }, () => question));
      const read = framed(encode(ReadMessagesRequestSchema, { topic: 'orders', maxBytes: 3_600_000n }));
      const refused: unknown[] = [];
      for (const session of sessions) {
        session.on('error', () => undefined);
        for (let index = 0; index < 100; index += 1) {
          const call = openCall(session, index % 2 === 0 ? readPath : reflectionPath);
          call.on('response', (headers) => refused.push(headers['millrace-reason']));
          call.end(index % 2 === 0 ? read : questions);
        }
      }
      // Most reads wait for room for some seconds, and get none.
      await expect
        .poll(() => refused.filter((reason) => reason !== undefined).length, { timeout: 60_000 })
        .toBeGreaterThan(300);
      expect([undefined, 'CONNECTION_BUSY', 'BROKER_BUSY']).toEqual(expect.arrayContaining([...new Set(refused)]));
      for (const session of sessions) session.destroy();
    });
  },
);

test('streams that the broker does not read at the moment, each with megabytes that wait', { timeout }, async () => {
  await hostile.attack(async (site) => {
    const noWindow = { settings: { initialWindowSize: 0 }, maxSessionMemory: 1_000 };
    const messageRequest = { case: 'fileContainingSymbol', value: 'millrace.v1.BrokerService' } as const;
    const question = framed(encode(ServerReflectionRequestSchema, { messageRequest }));
    // The broker stops reading each stream after some of these, and 4 MB of them wait.
    const questions = Buffer.concat(Array.from({ length: 4_000_000 / question.length }, () => question));
    let ended = 0;
    const sessions = Array.from({ length: 6 }, () => connect(`http://127.0.0.1:${site.broker.grpcPort}`, noWindow));
    for (const session of sessions) {
      session.on('error', () => undefined);
      const calls = Array.from({ length: 30 }, () => openCall(session, reflectionPath));
      await Promise.all(
        calls.map(async (call) => {
          const over = closed(call);
          const answered = new Promise((resolve) => call.once('response', resolve));
          call.write(questions);
          await Promise.race([over, answered]);
          ended += 1;
        }),
      );
    }
    expect(ended).toBe(180);
    for (const session of sessions) session.destroy();
  });
});
