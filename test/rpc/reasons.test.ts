import { once } from 'node:events';
import type { ServiceError } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { failureOf, GrpcClient } from './grpc-client.ts';
import { answerOf, framed, openCall, rawSession } from './raw-call.ts';
import { serve } from './serving.ts';

const publishPath = '/millrace.v1.BrokerService/Publish';

test('over gRPC every error has its reason as plain text, for libraries that do not decode details', async () => {
  const { grpcPort } = await serve();
  const client = new GrpcClient(grpcPort);
  const call = await failureOf(client.unary(TopicService.method.getTopic, { name: 'nowhere' }));
  expect(call.metadata.get('millrace-reason')).toEqual(['TOPIC_NOT_FOUND']);
  const stream = client.stream(BrokerService.method.subscribe, { group: 'bil ling', topics: ['orders'] });
  const [ended] = (await once(stream, 'error')) as [ServiceError];
  expect(ended.metadata.get('millrace-reason')).toEqual(['INVALID_FIELD']);
});

test('over HTTP every error has its reason as plain text, in a header or in the end of the stream', async () => {
  const { httpUrl } = await serve();
  const call = (method: string, type: string, body: string) =>
    fetch(`${httpUrl}/millrace.v1.${method}`, { method: 'POST', headers: { 'content-type': type }, body });
  const unary = await call('TopicService/GetTopic', 'application/json', '{"name":"nowhere"}');
  expect([unary.status, unary.headers.get('millrace-reason')]).toEqual([404, 'TOPIC_NOT_FOUND']);
  const body = '{"group":"bil ling"}';
  const envelope = `\0\0\0\0${String.fromCharCode(body.length)}`;
  const stream = await call('BrokerService/Subscribe', 'application/connect+json', envelope + body);
  expect(await stream.text()).toContain('"millrace-reason":["INVALID_FIELD"]');
});

test('a request that ends within its message, or goes on behind it, is refused with a reason', async () => {
  const { grpcPort, bugs } = await serve();
  const session = rawSession(grpcPort);
  const short = openCall(session, publishPath);
  short.end(framed(Buffer.alloc(100)).subarray(0, 60));
  expect(await answerOf(short)).toMatchObject({ code: 3, reason: 'MALFORMED_REQUEST' });
  const empty = openCall(session, publishPath);
  empty.end();
  expect(await answerOf(empty)).toMatchObject({ code: 3, reason: 'MALFORMED_REQUEST' });
  const twice = openCall(session, publishPath);
  twice.end(Buffer.concat([framed(Buffer.alloc(9)), framed(Buffer.alloc(9))]));
  expect(await answerOf(twice)).toMatchObject({ code: 3, reason: 'MALFORMED_REQUEST' });
  expect(bugs).toEqual([]);
});
