import { EventEmitter, once } from 'node:events';
import type { Http2Session, ServerHttp2Stream } from 'node:http2';
import { Duplex } from 'node:stream';
import type { ServiceError } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { Health, HealthCheckRequestSchema, type HealthCheckResponse } from '../../../gen/grpc/health/v1/health_pb.js';
import { ServerReflection, ServerReflectionRequestSchema } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import type { RawBidiStream } from '../../../src/rpc/grpc/definition.ts';
import { callerOf } from '../../../src/rpc/edge/caller.ts';
import { OpenCall, OpenCalls } from '../../../src/rpc/grpc/open-call.ts';
import { OpenStreams } from '../../../src/rpc/grpc/open-streams.ts';
import { reflectionMethod } from '../../../src/rpc/grpc/reflection.ts';
import { Reflection } from '../../../src/rpc/handlers/reflection.ts';
import { Turns } from '../../../src/time/turns.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { encode, failureOf, GrpcClient } from '../grpc-client.ts';
import { answerOf, framed, openCall, rawSession } from '../raw-call.ts';
import { serve } from '../serving.ts';

const { check, list, watch } = Health.method;
const serving = { status: 1 };

test('a health check of the broker or of one of its services says that it serves', async () => {
  const { grpcPort } = await serve();
  const client = new GrpcClient(grpcPort);
  expect(await client.unary(check, {})).toMatchObject(serving);
  expect(await client.unary(check, { service: 'millrace.v1.BrokerService' })).toMatchObject(serving);
  const { statuses } = await client.unary(list, {});
  expect(statuses).toMatchObject({ '': serving, 'millrace.v1.GroupService': serving });
});

test('a health check of an unknown service, or of a name of any length, is refused with a reason', async () => {
  const { grpcPort } = await serve();
  const client = new GrpcClient(grpcPort);
  const unknown = await failureOf(client.unary(check, { service: 'millrace.v1.Nothing' }));
  expect([unknown.code, unknown.metadata.get('millrace-reason')]).toEqual([5, ['SERVICE_NOT_FOUND']]);
  const service = 'x'.repeat(limits.healthNameBytesMax + 1);
  const long = await failureOf(client.unary(check, { service }));
  expect([long.code, long.metadata.get('millrace-reason')]).toEqual([3, ['INVALID_FIELD']]);
  const [watching] = (await once(client.stream(watch, { service }), 'error')) as [ServiceError];
  expect([watching.code, watching.metadata.get('millrace-reason')]).toEqual([3, ['INVALID_FIELD']]);
});

test('a Watch says that an unknown service may come, and tells a known one when the broker stops', async () => {
  const { grpcPort, servers } = await serve();
  const client = new GrpcClient(grpcPort);
  const seen: Record<string, number[]> = { known: [], unknown: [] };
  const ends = Object.entries({ known: '', unknown: 'millrace.v1.Nothing' }).map(async ([name, service]) => {
    const stream = client.stream(watch, { service });
    stream.on('data', ({ status }: HealthCheckResponse) => seen[name]!.push(status));
    await once(stream, 'end');
  });
  await expect.poll(() => seen).toEqual({ known: [1], unknown: [3] });
  await servers.stop(10_000);
  await Promise.all(ends);
  expect(seen).toEqual({ known: [1, 2], unknown: [3] });
});

test('a client that reads no answers of reflection can ask for as many as it likes', () => {
  let written = 0;
  const taken: (() => void)[] = [];
  const write = (answer: Buffer, _encoding: string, done: () => void) => {
    written += answer.length;
    taken.push(done);
  };
  const stream = new EventEmitter() as ServerHttp2Stream;
  const owner = roomyAccount().owner();
  const [streams, bodies, answers] = [owner.kind('streams'), owner.kind('bodies'), owner.kind('answers')];
  const decoded = owner.kind('decoded');
  const session = { destroyed: false } as Http2Session;
  OpenCall.begin(
    stream,
    { session, caller: callerOf('::1'), streams, bodies, answers, decoded },
    new OpenCalls(new FakeClock()),
  );
  const call = Object.assign(new Duplex({ objectMode: true, read: () => undefined, write }), { call: { stream } });
  const turns = new Turns({
    soon: (run) => {
      run();
    },
  });
  reflectionMethod(new Reflection([Health]), new OpenStreams(), turns, () => '')(call as unknown as RawBidiStream);
  const messageRequest = { case: 'fileContainingSymbol', value: 'grpc.health.v1.Health' } as const;
  const question = encode(ServerReflectionRequestSchema, { messageRequest });
  let asked = 0;
  while (!call.isPaused() && asked < 40_000) {
    call.emit('data', question);
    asked += 1;
  }
  expect(asked).toBeLessThan(1_000);
  expect(written).toBeLessThan(limits.reflectionUnsentBytesMax);
  taken[0]!();
  expect(call.isPaused()).toBe(false);
});

test('a question of reflection is as long as its client likes, and so is its answer', async () => {
  const { grpcPort } = await serve();
  const stream = new GrpcClient(grpcPort).bidi(ServerReflection.method.serverReflectionInfo);
  const failed = once(stream, 'error');
  stream.write({ messageRequest: { case: 'fileByFilename', value: 'x'.repeat(1_000_000) } });
  const [error] = (await failed) as [ServiceError];
  expect([error.code, error.metadata.get('millrace-reason')]).toEqual([3, ['INVALID_FIELD']]);
});

test('a Watch whose request is large is refused, and its bytes are not kept', async () => {
  const { grpcPort } = await serve();
  const call = openCall(rawSession(grpcPort), '/grpc.health.v1.Health/Watch');
  call.end(framed(encode(HealthCheckRequestSchema, { service: 'x'.repeat(900_000) })));
  expect(await answerOf(call)).toMatchObject({ code: 3, reason: 'INVALID_FIELD' });
});
