import { create, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { ServerReflectionRequestSchema } from '../../gen/grpc/reflection/v1/reflection_pb.js';
import { Reflection } from '../../src/rpc/handlers/reflection.ts';
import { services } from '../../src/rpc/handlers/handlers.ts';
import { bufCurl, bufCurlStream } from './buf-curl.ts';
import { memberId, oneRecord } from './fake-broker.ts';
import { serve } from './serving.ts';

const reflection = new Reflection(services);

type Question = Parameters<typeof create<typeof ServerReflectionRequestSchema>>[1];

function ask(messageRequest: NonNullable<Question>['messageRequest']) {
  return reflection.answer(create(ServerReflectionRequestSchema, { messageRequest: messageRequest! })).messageResponse;
}

function filesOf(answer: ReturnType<typeof ask>): string[] {
  if (answer.case !== 'fileDescriptorResponse') return [];
  return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
}

test('a file that comes without its imports, which makes it useless to buf curl', () => {
  const files = filesOf(ask({ case: 'fileContainingSymbol', value: 'millrace.v1.BrokerService' }));
  expect(files).toEqual([
    'millrace/v1/broker.proto',
    'google/protobuf/duration.proto',
    'google/protobuf/timestamp.proto',
    'millrace/v1/record.proto',
  ]);
});

test.each([
  'millrace.v1.BrokerService.Publish',
  'millrace.v1.PublishRequest',
  'millrace.v1.StartPosition.Offsets',
  'millrace.v1.AckStatus',
  'google.protobuf.Timestamp',
])('the symbol %s is found', (value) => {
  expect(filesOf(ask({ case: 'fileContainingSymbol', value }))).not.toEqual([]);
});

test('what there is not is an answer, and does not end the stream', () => {
  const error = { case: 'errorResponse', value: { errorCode: 5 } };
  expect(ask({ case: 'fileContainingSymbol', value: 'millrace.v1.Nothing' })).toMatchObject(error);
  expect(ask({ case: 'fileByFilename', value: 'nothing.proto' })).toMatchObject(error);
  expect(ask({ case: 'allExtensionNumbersOfType', value: 'millrace.v1.Record' })).toMatchObject(error);
});

test('buf curl without proto files lists, publishes, subscribes and acks', async () => {
  const { broker, grpcPort } = await serve();
  const url = `http://127.0.0.1:${grpcPort}`;
  const methods = await bufCurl('--http2-prior-knowledge', '--protocol', 'grpc', '--list-methods', url);
  expect(methods.split('\n')).toEqual(expect.arrayContaining(['millrace.v1.BrokerService/Publish']));
  expect(methods).toContain('grpc.health.v1.Health/Check');

  const curl = (method: string, data: object) =>
    bufCurl(
      '--http2-prior-knowledge',
      '--protocol',
      'grpc',
      '-d',
      JSON.stringify(data),
      `${url}/millrace.v1.${method}`,
    );
  const publish = { topic: 'orders', records: [{ key: 'k1', value: 'aGVsbG8=', headers: { type: 'OrderPlaced' } }] };
  expect(JSON.parse(await curl('BrokerService/Publish', publish))).toMatchObject({
    results: [{ partition: 0, offset: '0' }],
  });

  const subscribe = JSON.stringify({ group: 'billing', topics: ['orders'], start: { earliest: {} } });
  const target = `${url}/millrace.v1.BrokerService/Subscribe`;
  const stream = bufCurlStream('--http2-prior-knowledge', '--protocol', 'grpc', '-d', subscribe, target);
  let output = '';
  stream.stdout!.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await expect.poll(() => output, { timeout: 10_000 }).toContain(memberId);
  broker.streams[0]!.sink.send({ type: 'batch', generation: 1, field: oneRecord('hello') });
  await expect.poll(() => output).toContain('"aGVsbG8="');

  const ack = { group: 'billing', memberId, generation: 1, acks: [{ topic: 'orders', partition: 0, upToOffset: '0' }] };
  expect(JSON.parse(await curl('BrokerService/Ack', ack))).toMatchObject({
    results: [{ partition: 0, status: 'ACK_STATUS_OK', committedOffset: '1' }],
  });
  const health = await bufCurl(
    '--http2-prior-knowledge',
    '--protocol',
    'grpc',
    '-d',
    '{}',
    `${url}/grpc.health.v1.Health/Check`,
  );
  expect(JSON.parse(health)).toEqual({ status: 'SERVING' });
});

test('buf curl without proto files speaks Connect to the HTTP port', async () => {
  const { httpUrl } = await serve();
  const publish = JSON.stringify({ topic: 'orders', records: [{ value: 'aGVsbG8=' }] });
  const published = await bufCurl('-d', publish, `${httpUrl}/millrace.v1.BrokerService/Publish`);
  expect(JSON.parse(published)).toMatchObject({ results: [{ partition: 0, offset: '0' }] });
  const streamed = await bufCurl('-d', publish + publish, `${httpUrl}/millrace.v1.BrokerService/PublishStream`);
  expect(streamed.match(/"offset"/g)).toHaveLength(2);
});
