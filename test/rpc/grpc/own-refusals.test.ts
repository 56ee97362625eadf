import { once } from 'node:events';
import { connect, type OutgoingHttpHeaders } from 'node:http2';
import { expect, onTestFinished, test } from 'vitest';
import { ServerReflectionRequestSchema } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { PullRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { encode } from '../grpc-client.ts';
import { answerOf, framed, openCall, rawSession } from '../raw-call.ts';
import { serve } from '../serving.ts';

const pull = encode(PullRequestSchema, { group: 'billing', topics: ['orders'], wait: { seconds: 60n } });
const paths = [
  '/millrace.v1.BrokerService/Publish',
  '/millrace.v1.BrokerService/Pull',
  '/millrace.v1.BrokerService/Subscribe',
  '/millrace.v1.BrokerService/PublishStream',
  '/millrace.v1.MessageService/ReadMessages',
  '/grpc.health.v1.Health/Check',
  '/grpc.health.v1.Health/Watch',
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
];
const tooLarge = Buffer.alloc(5);
tooLarge.writeUInt32BE(limits.publishBytesMax + 1, 1);

const refused: readonly (readonly [string, Buffer, OutgoingHttpHeaders, string])[] = [
  ['a message that is cut short', framed(pull).subarray(0, -3), {}, 'MALFORMED_REQUEST'],
  ['half of a prefix', Buffer.alloc(3), {}, 'MALFORMED_REQUEST'],
  ['a message that is too large', tooLarge, {}, 'REQUEST_TOO_LARGE'],
  ['a message that says that it is compressed', framed(pull, 1), {}, 'COMPRESSION_REFUSED'],
  ['compressed messages', framed(pull), { 'grpc-encoding': 'gzip' }, 'COMPRESSION_REFUSED'],
  ['a malformed timeout', framed(pull), { 'grpc-timeout': 'soon' }, 'MALFORMED_REQUEST'],
];

test.each(refused)(
  '%s is refused with a reason by every kind of call, and is no bug',
  async (_what, body, headers, reason) => {
    const { bugs, grpcPort } = await serve();
    const session = rawSession(grpcPort);
    for (const path of paths) {
      const call = openCall(session, path, headers);
      call.end(body);
      expect([path, await answerOf(call)]).toMatchObject([path, { reason }]);
    }
    expect(bugs).toEqual([]);
  },
);

test('a request without a message, or with two, is refused with a reason, and is no bug', async () => {
  const { bugs, grpcPort } = await serve();
  const session = rawSession(grpcPort);
  for (const path of paths.filter((each) => !/Stream$|Info$/.test(each))) {
    for (const body of [Buffer.alloc(0), Buffer.concat([framed(pull), framed(pull)])]) {
      const call = openCall(session, path);
      call.end(body);
      expect([path, await answerOf(call)]).toMatchObject([path, { code: 3, reason: 'MALFORMED_REQUEST' }]);
    }
  }
  expect(bugs).toEqual([]);
});

test('the deadline of a call has a reason, and what its handler does later is no bug', async () => {
  const { broker, bugs, grpcPort } = await serve();
  const session = rawSession(grpcPort);
  const committed = Promise.withResolvers<void>();
  broker.commit = () => committed.promise;
  for (const path of ['/millrace.v1.BrokerService/Pull', '/grpc.health.v1.Health/Watch']) {
    const call = openCall(session, path, { 'grpc-timeout': '20m' });
    call.end(path.endsWith('Pull') ? framed(pull) : framed(Buffer.alloc(0)));
    expect([path, await answerOf(call)]).toMatchObject([path, { code: 4, reason: 'DEADLINE_EXCEEDED' }]);
  }
  committed.resolve();
  expect(bugs).toEqual([]);
});

test('an answer behind the status of a deadline that waits for its client does not keep it back, and is no bug', async () => {
  const { bugs, grpcPort } = await serve();
  const timeout = { 'grpc-timeout': '50m' };
  // One byte is read, so that the status waits behind the first answer.
  const session = connect(`http://127.0.0.1:${grpcPort}`, { settings: { initialWindowSize: 1 } });
  onTestFinished(() => {
    session.destroy();
  });
  const question = framed(
    encode(ServerReflectionRequestSchema, { messageRequest: { case: 'listServices', value: '' } }),
  );
  const call = openCall(session, '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', timeout);
  call.write(question);
  await once(call, 'response');
  // A deadline that was set later comes later.
  const later = openCall(rawSession(grpcPort), '/grpc.health.v1.Health/Watch', timeout);
  later.end(framed(Buffer.alloc(0)));
  expect(await answerOf(later)).toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
  call.write(question);
  await new Promise((resolve) => session.ping(resolve));
  // The first answer goes out, and the second one would follow.
  const ended = once(call.resume(), 'trailers');
  session.settings({ initialWindowSize: 65_535 });
  const [trailers] = await ended;
  expect(trailers).toMatchObject({ 'millrace-reason': 'DEADLINE_EXCEEDED' });
  expect(bugs).toEqual([]);
});
