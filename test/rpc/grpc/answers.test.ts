import { once } from 'node:events';
import { connect, type ClientHttp2Session } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { PublishRequestSchema, PullRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { ServerReflectionRequestSchema } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { ReadMessagesRequestSchema } from '../../../gen/millrace/v1/message_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { roomyAccount, smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { oneRecord } from '../fake-broker.ts';
import { encode } from '../grpc-client.ts';
import { answerOf, framed, openCall, rawSession, type RawAnswer } from '../raw-call.ts';
import { serve } from '../serving.ts';

const mib = 1_048_576;
const publishPath = '/millrace.v1.BrokerService/Publish';
const pullPath = '/millrace.v1.BrokerService/Pull';
const readPath = '/millrace.v1.MessageService/ReadMessages';
const read = framed(encode(ReadMessagesRequestSchema, { topic: 'orders', maxBytes: BigInt(mib) }));
const pull = framed(encode(PullRequestSchema, { group: 'billing', topics: ['orders'] }));
const publish = framed(encode(PublishRequestSchema, { topic: 'orders', records: [{ value: Buffer.from('a') }] }));

/** A client that gives the broker no window for answers. `cut` breaks its connection. */
function unreadingSession(port: number): ClientHttp2Session & { readonly cut: () => void } {
  const socket = connectSocket(port, '127.0.0.1');
  const options = { settings: { initialWindowSize: 0 }, createConnection: () => socket };
  const session = connect(`http://127.0.0.1:${port}`, options);
  session.on('error', () => undefined);
  const cut = () => socket.destroy();
  onTestFinished(() => {
    cut();
  });
  return Object.assign(session, { cut });
}

function ask(session: ClientHttp2Session, path: string, request: Buffer) {
  const call = openCall(session, path);
  call.end(request);
  return call;
}

const fields = [oneRecord('x'.repeat(900_000))];

test('an answer is counted until its client has read it, and no longer, however its call ends', async () => {
  const account = roomyAccount();
  const answers = account.kind('answers');
  const { broker, grpcPort } = await serve({ account });
  broker.fields = fields;
  const read1 = rawSession(grpcPort);
  expect(await answerOf(ask(read1, readPath, read))).toMatchObject({ code: 0 });
  expect(await answerOf(ask(read1, publishPath, publish))).toMatchObject({ code: 0 });
  expect(answers.bytes).toBe(0);
  const session = unreadingSession(grpcPort);
  const unread = [readPath, readPath, pullPath].map((path) => ask(session, path, path === pullPath ? pull : read));
  await Promise.all(unread.map((call) => once(call, 'response')));
  await expect.poll(() => answers.bytes).toBeGreaterThan(2_700_000);
  // One leaves, and the connection of the others breaks.
  unread[0]!.close();
  await expect.poll(() => answers.bytes).toBeLessThan(1_900_000);
  expect(answers.bytes).toBeGreaterThan(1_800_000);
  session.cut();
  await expect.poll(() => answers.bytes).toBe(0);
});

test('a client that reads asks for more at once than the broker may hold for it, and gets all of it', async () => {
  const clock = new FakeClock();
  const { broker, grpcPort } = await serve({ clock });
  broker.fields = fields;
  const session = rawSession(grpcPort);
  const codes: number[] = [];
  const calls = Array.from({ length: 60 }, () => answerOf(ask(session, readPath, read)));
  for (const call of calls) void call.then(({ code }) => codes.push(code));
  const answered = async (): Promise<number> => {
    // A busy machine is no client that does not read.
    await clock.advance(0);
    return codes.length;
  };
  await expect.poll(answered, { timeout: 25_000, interval: 5 }).toBe(calls.length);
  expect(codes).toEqual(calls.map(() => 0));
});

test('a client that reads nothing is refused before the work, and others are served', async () => {
  const account = roomyAccount();
  const answers = account.kind('answers');
  const clock = new FakeClock();
  const { broker, grpcPort } = await serve({ account, clock });
  broker.fields = fields;
  const session = unreadingSession(grpcPort);
  for (let asked = 0; asked < 9; asked += 1) await once(ask(session, pullPath, pull), 'response');
  expect(answers.bytes).toBeLessThanOrEqual(8 * mib);
  const asked = broker.calls.length;
  let answer: RawAnswer | null = null;
  void answerOf(ask(session, readPath, read)).then((refused) => (answer = refused));
  await expect
    .poll(async () => {
      await clock.advance(limits.answerRoomMs);
      return answer;
    })
    .toMatchObject({ code: 8, reason: 'CONNECTION_BUSY' });
  expect(broker.calls.length).toBe(asked);
  const other = rawSession(grpcPort);
  expect(await answerOf(ask(other, readPath, read))).toMatchObject({ code: 0 });
  expect(await answerOf(ask(other, publishPath, publish))).toMatchObject({ code: 0 });
});

test('when the answers of all connections are unread, small calls of a client that reads go on', async () => {
  const account = smallAccount({ answers: 2 * mib });
  const { broker, grpcPort } = await serve({ account });
  broker.fields = fields;
  const session = unreadingSession(grpcPort);
  for (const path of [pullPath, pullPath]) await once(ask(session, path, pull), 'response');
  const other = rawSession(grpcPort);
  expect(await answerOf(ask(other, pullPath, pull))).toMatchObject({ code: 8, reason: 'BROKER_BUSY' });
  broker.fields = [];
  expect(await answerOf(ask(other, pullPath, pull))).toMatchObject({ code: 0 });
  expect(await answerOf(ask(other, publishPath, publish))).toMatchObject({ code: 0 });
  session.cut();
  await expect.poll(() => account.kind('answers').bytes).toBe(0);
});

test('an answer that nobody reads ends its call', async () => {
  const account = roomyAccount();
  const clock = new FakeClock();
  const { broker, bugs, grpcPort } = await serve({ account, clock });
  broker.fields = fields;
  const session = unreadingSession(grpcPort);
  const calls = [ask(session, readPath, read), ask(session, publishPath, publish)];
  const closed = Promise.all(calls.map((call) => once(call, 'close')));
  await Promise.all(calls.map((call) => once(call, 'response')));
  let over = false;
  void closed.then(() => (over = true));
  await expect
    .poll(async () => {
      await clock.advance(limits.unreadAnswerMs);
      return over;
    })
    .toBe(true);
  expect(calls.map(({ rstCode }) => rstCode)).toEqual([8, 8]);
  await expect.poll(() => account.kind('answers').bytes).toBe(0);
  expect([account.kind('streams').bytes, bugs]).toEqual([0, []]);
});

test('questions to reflection on hundreds of streams, whose answers nobody reads, are refused', async () => {
  const account = roomyAccount();
  const { grpcPort } = await serve({ account });
  const messageRequest = { case: 'fileContainingSymbol', value: 'millrace.v1.BrokerService' } as const;
  const question = framed(encode(ServerReflectionRequestSchema, { messageRequest }));
  const session = unreadingSession(grpcPort);
  const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
  const questions = Buffer.concat(Array.from({ length: 100 }, () => question));
  const calls = Array.from({ length: 300 }, () => ask(session, path, questions));
  const reasons = new Set<unknown>();
  for (const call of calls) call.on('response', (headers) => reasons.add(headers['millrace-reason']));
  await expect.poll(() => [...reasons], { timeout: 20_000 }).toContain('CONNECTION_BUSY');
  expect(account.kind('answers').bytes).toBeLessThan(9 * mib);
  session.cut();
  await expect.poll(() => account.kind('answers').bytes).toBe(0);
});

test('answers of a few bytes that a stream of publishes does not read weigh nothing', async () => {
  const account = roomyAccount();
  const answers = account.kind('answers');
  const { grpcPort } = await serve({ account });
  const session = unreadingSession(grpcPort);
  const stream = openCall(session, '/millrace.v1.BrokerService/PublishStream');
  stream.write(Buffer.concat(Array.from({ length: 100 }, () => publish)));
  // The first one is with the socket already.
  await expect.poll(() => answers.bytes).toBeGreaterThan(98 * limits.unsentEventBytes);
  stream.close();
  await expect.poll(() => answers.bytes).toBe(0);
});
