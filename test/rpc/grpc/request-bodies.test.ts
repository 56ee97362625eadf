import { once } from 'node:events';
import { connect } from 'node:http2';
import type { ServerInterceptor } from '@grpc/grpc-js';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { BrokerService, PublishRequestSchema, PullRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { weights } from '../../../src/account/weights.ts';
import { limits } from '../../../src/limits/limits.ts';
import { rawService } from '../../../src/rpc/grpc/definition.ts';
import { smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { encode } from '../grpc-client.ts';
import { answerOf, framed, openCall, rawSession } from '../raw-call.ts';
import { serve } from '../serving.ts';

const publishPath = '/millrace.v1.BrokerService/Publish';
const streamPath = '/millrace.v1.BrokerService/PublishStream';
const publish = encode(PublishRequestSchema, { topic: 'orders', records: [{ value: Buffer.alloc(500) }] });

describe('a request that is never complete', () => {
  test.each([
    ['no byte', publishPath, Buffer.alloc(0)],
    ['all but its last byte', publishPath, framed(publish).subarray(0, -1)],
    ['every byte, and no end', publishPath, framed(publish)],
    ['half of a message of a stream', streamPath, framed(publish).subarray(0, 60)],
  ])('%s holds its call for half a minute, and not for ever', async (_what, path, bytes) => {
    const clock = new FakeClock();
    const { broker, grpcPort, bugs } = await serve({ clock });
    const call = openCall(rawSession(grpcPort), path);
    const answer = answerOf(call);
    if (bytes.length > 0) call.write(bytes);
    let ended = false;
    void answer.then(() => (ended = true));
    await expect
      .poll(async () => {
        await clock.advance(limits.partialRequestMs);
        return ended;
      })
      .toBe(true);
    expect(await answer).toMatchObject({
      code: 3,
      reason: 'MALFORMED_REQUEST',
      message: expect.stringContaining('30 s'),
    });
    expect([broker.published.length, bugs]).toEqual([0, []]);
  });

  test('a stream between two of its messages may wait for ever', async () => {
    const clock = new FakeClock();
    const { grpcPort } = await serve({ clock });
    const call = openCall(rawSession(grpcPort), streamPath);
    const answer = answerOf(call);
    call.write(framed(publish));
    await once(call, 'data');
    for (let turn = 0; turn < 5; turn += 1) await clock.advance(limits.partialRequestMs);
    call.end(framed(publish));
    expect(await answer).toMatchObject({ code: 0 });
  });
});

test('what a large request has become is counted until its handler ends, however the call ends', async () => {
  const account = smallAccount({ decoded: 4_000_000 });
  const decoded = account.kind('decoded');
  const { broker, grpcPort } = await serve({ account, limits: { ...limits, partitionsMax: 12_000 } });
  const session = rawSession(grpcPort);
  const partitions = Array.from({ length: 12_000 }, (_, partition) => ({ partition, offset: 100n }));
  const start = { position: { case: 'offset', value: { partitions } } } as const;
  const pull = encode(PullRequestSchema, { group: 'billing', topics: ['orders'], start, wait: { seconds: 60n } });
  expect(pull.length).toBeGreaterThan(limits.uncountedRequestBytesMax);
  const open = () => {
    const call = openCall(session, '/millrace.v1.BrokerService/Pull');
    call.end(framed(pull));
    return call;
  };
  const first = open();
  await expect.poll(() => broker.calls.length).toBe(1);
  expect(decoded.bytes).toBeGreaterThan(12_000 * weights.decodedMessage);
  expect(await answerOf(open())).toMatchObject({ code: 8, reason: 'BROKER_BUSY' });
  const closed = answerOf(first);
  first.close();
  await closed;
  await expect.poll(() => decoded.bytes).toBe(0);
  // A call that fails, or is answered at once.
  broker.fail = new TypeError('boom');
  expect(await answerOf(open())).toMatchObject({ code: 13 });
  expect(decoded.bytes).toBe(0);
});

test('a request in pieces of one byte is refused, and its client is asked to stop', async () => {
  const { grpcPort } = await serve();
  const call = openCall(rawSession(grpcPort), publishPath);
  const answer = answerOf(call);
  call.write(framed(Buffer.alloc(4_000_000)).subarray(0, 5));
  const piece = Buffer.alloc(1);
  const push = (): void => {
    for (let count = 0; count < 100 && !call.destroyed; count += 1) call.write(piece);
    if (!call.destroyed) call.write(piece, push);
  };
  push();
  expect(await answer).toMatchObject({ code: 3, reason: 'MALFORMED_REQUEST' });
});

test('a stream that ends within a message fails, after the answers to the messages before', async () => {
  const { broker, grpcPort } = await serve();
  const call = openCall(rawSession(grpcPort), streamPath);
  const answer = answerOf(call);
  const answers: Buffer[] = [];
  call.on('data', (chunk: Buffer) => answers.push(chunk));
  call.end(Buffer.concat([framed(publish), framed(publish).subarray(0, 100)]));
  expect(await answer).toMatchObject({ code: 3, reason: 'MALFORMED_REQUEST' });
  expect([broker.published.length, Buffer.concat(answers).length > 5]).toEqual([1, true]);
});

test('hundreds of messages of a stream in one packet are answered, one by one', async () => {
  const { broker, grpcPort } = await serve();
  const call = openCall(rawSession(grpcPort), streamPath);
  const small = encode(PublishRequestSchema, { topic: 'orders', records: [{ value: Buffer.from('a') }] });
  call.end(Buffer.concat(Array.from({ length: 900 }, () => framed(small))));
  expect(await answerOf(call)).toMatchObject({ code: 0 });
  expect(broker.published).toHaveLength(900);
});

test('grpc-js has the fields of a call that the limits of its request need', async () => {
  const seen: unknown[] = [];
  const look: ServerInterceptor = (_method, call) => {
    const { stream, decoder } = call as unknown as { readonly stream: object; readonly decoder: object };
    seen.push('pushStream' in stream, 'write' in decoder, 'handleEndEvent' in call);
    return call as ReturnType<ServerInterceptor>;
  };
  const server = new Server({ interceptors: [look] });
  onTestFinished(() => {
    server.forceShutdown();
  });
  const service = rawService(BrokerService);
  const decoderOf = (raw: unknown) => (raw as { readonly call: { readonly decoder: object } }).call.decoder;
  const ended = Promise.withResolvers<void>();
  const nothing = () => undefined;
  const handlers = Object.fromEntries(Object.keys(service).map((name) => [name, nothing]));
  server.addService(service, {
    ...handlers,
    publishStream: (raw: unknown) => {
      seen.push('write' in decoderOf(raw));
      ended.resolve();
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  const session = connect(`http://127.0.0.1:${port}`);
  onTestFinished(() => {
    session.destroy();
  });
  openCall(session, streamPath);
  await ended.promise;
  expect(seen).toEqual([true, true, true, true]);
});
