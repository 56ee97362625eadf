import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { createRegistry } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { describe, expect, onTestFinished, test } from 'vitest';
import { file_google_rpc_error_details } from '../../../gen/google/rpc/error_details_pb.js';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { Fault } from '../../../src/errors/fault.ts';
import { replaced as replacedStream } from '../../../src/errors/rejections/members.ts';
import { limits } from '../../../src/limits/limits.ts';
import { memberId, oneRecord } from '../fake-broker.ts';
import { closed } from '../raw-call.ts';
import { serve, type Serving } from '../serving.ts';

const registry = createRegistry(file_google_rpc_error_details);
const record = { key: 'k1', value: Buffer.from('hello'), headers: { type: 'OrderPlaced' } };

const transports: readonly (readonly [string, (baseUrl: string) => Transport])[] = [
  ['Connect', (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: true })],
  ['Connect in JSON', (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '1.1' })],
  ['gRPC-Web', (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' })],
  ['gRPC-Web in JSON', (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: false })],
  ['Connect over HTTP/2', (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '2' })],
  ['gRPC', (baseUrl) => createGrpcTransport({ baseUrl })],
];

async function failureOf(promise: Promise<unknown>): Promise<ConnectError> {
  return promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => ConnectError.from(error),
  );
}

function detailsOf(error: ConnectError): Record<string, unknown> {
  const messages = error.findDetails(registry);
  return Object.fromEntries(messages.map((message) => [message.$typeName.replace('google.rpc.', ''), message]));
}

describe.each(transports)('%s', (_name, transport) => {
  test('a member that asked for changes of its assignment is told which they are', async () => {
    const { broker, httpUrl } = await serve();
    const client = createClient(BrokerService, transport(httpUrl));
    const canceller = new AbortController();
    const request = { group: 'billing', topics: ['orders'], assignmentChanges: true };
    const stream = client.subscribe(request, { signal: canceller.signal })[Symbol.asyncIterator]();
    await stream.next();
    const { sink, command } = broker.streams[0]!;
    expect(command).toMatchObject({ assignmentChanges: true });
    const [gained, lost] = [
      { topic: 'orders', partition: 2 },
      { topic: 'orders', partition: 0 },
    ];
    sink.send({ type: 'assigned', generation: 2, partitions: [gained], removed: [lost] });
    expect((await stream.next()).value).toMatchObject({
      event: { case: 'assigned', value: { generation: 2n, changes: true, partitions: [gained], removed: [lost] } },
    });
    canceller.abort();
    await stream.next().catch(() => undefined);
  });

  test('publishes, subscribes, acks and reads', async () => {
    const { broker, httpUrl } = await serve();
    const client = createClient(BrokerService, transport(httpUrl));
    const published = await client.publish({ topic: 'orders', records: [record], partition: 0 });
    expect(published.results).toMatchObject([{ partition: 0, offset: 0n }]);
    expect(broker.published[0]).toMatchObject({ topic: 'orders', partition: 0, committed: true });

    const canceller = new AbortController();
    const events = client.subscribe({ group: 'billing', topics: ['orders'] }, { signal: canceller.signal });
    const stream = events[Symbol.asyncIterator]();
    expect((await stream.next()).value).toMatchObject({ generation: 1n, event: { value: { memberId } } });
    expect(broker.streams[0]!.caller.host).toContain('127.0.0.1');
    broker.streams[0]!.sink.send({ type: 'batch', generation: 0, field: oneRecord('hello') });
    expect((await stream.next()).value).toMatchObject({
      generation: 0n,
      event: { case: 'batch', value: { partition: 0, lane: 0, records: [{ offset: 0n, record: { key: 'k1' } }] } },
    });
    const acks = [{ topic: 'orders', partition: 0, upToOffset: 0n }];
    const acked = await client.ack({ group: 'billing', memberId, generation: 1n, acks });
    expect(acked.results).toMatchObject([{ partition: 0, committedOffset: 1n }]);
    canceller.abort();
    await expect.poll(() => broker.streams[0]!.closed).toBe(true);

    broker.fields = [oneRecord('one'), oneRecord('two', 1n)];
    const messages = createClient(MessageService, transport(httpUrl));
    expect((await messages.readMessages({ topic: 'orders' })).batches).toHaveLength(2);
    expect((await client.pull({ group: 'billing', topics: ['orders'] })).batches).toHaveLength(2);
  });

  test('tells what is wrong with the same details as the other edge', async () => {
    const { broker, bugs, httpUrl } = await serve();
    const client = createClient(BrokerService, transport(httpUrl));
    const topics = createClient(TopicService, transport(httpUrl));
    const badName = await failureOf(topics.getTopic({ name: 'or ders' }));
    expect(badName.code).toBe(Code.InvalidArgument);
    expect(detailsOf(badName)).toMatchObject({
      ErrorInfo: { reason: 'INVALID_FIELD', domain: 'millrace' },
      BadRequest: { fieldViolations: [{ field: 'name' }] },
    });
    const nowhere = await failureOf(client.publish({ topic: 'nowhere', records: [record] }));
    expect(nowhere.code).toBe(Code.NotFound);
    expect(detailsOf(nowhere)).toMatchObject({ ErrorInfo: { reason: 'TOPIC_NOT_FOUND' } });
    const large = { value: Buffer.alloc(limits.publishBytesMax) };
    const tooLarge = await failureOf(client.publish({ topic: 'orders', records: [large] }));
    expect(detailsOf(tooLarge)).toMatchObject({ ErrorInfo: { reason: 'REQUEST_TOO_LARGE' } });

    const badStream = client.subscribe({ group: '', topics: ['orders'] })[Symbol.asyncIterator]();
    const refused = await failureOf(badStream.next());
    expect(detailsOf(refused)).toMatchObject({ BadRequest: { fieldViolations: [{ field: 'group' }] } });
    const stream = client.subscribe({ group: 'billing', topics: ['orders'] })[Symbol.asyncIterator]();
    await stream.next();
    broker.streams[0]!.sink.send({ type: 'batch', generation: 1, field: oneRecord('last') });
    broker.streams[0]!.sink.end(replacedStream('member-1'));
    expect((await stream.next()).value).toMatchObject({ event: { case: 'batch' } });
    const replaced = await failureOf(stream.next());
    expect(replaced.code).toBe(Code.Aborted);
    expect(detailsOf(replaced)).toMatchObject({ ErrorInfo: { reason: 'REPLACED' } });

    broker.fail = new Fault('DATABASE_UNAVAILABLE', 'password authentication failed');
    const unavailable = await failureOf(client.publish({ topic: 'orders', records: [record] }));
    expect(unavailable.code).toBe(Code.Unavailable);
    expect(detailsOf(unavailable)).toMatchObject({ ErrorInfo: { reason: 'DATABASE_UNAVAILABLE' }, RetryInfo: {} });
    broker.fail = new TypeError('boom');
    const bug = await failureOf(client.publish({ topic: 'orders', records: [record] }));
    expect(bug.code).toBe(Code.Internal);
    expect(bug.message).not.toContain('boom');
    expect(bugs).toHaveLength(1);
  });
});

test('a PublishStream over Connect answers in order and ends at its first failure', async () => {
  const { broker, httpUrl } = await serve();
  const client = createClient(BrokerService, createConnectTransport({ baseUrl: httpUrl, httpVersion: '2' }));
  async function* requests() {
    for (const partition of [2, 0, 1]) yield { topic: 'orders', partition, records: [record] };
    yield { topic: 'nowhere', records: [record] };
    yield { topic: 'orders', partition: 2, records: [record] };
  }
  const partitions: number[] = [];
  const error = await failureOf(
    (async () => {
      for await (const { results } of client.publishStream(requests())) partitions.push(results[0]!.partition!);
    })(),
  );
  expect(partitions).toEqual([2, 0, 1]);
  expect(detailsOf(error)).toMatchObject({ ErrorInfo: { reason: 'TOPIC_NOT_FOUND' } });
  expect(broker.published).toHaveLength(3);
});

async function post({ httpUrl }: Serving, method: string, body: string | Uint8Array<ArrayBuffer>, type: string) {
  const options = { method: 'POST', headers: { 'content-type': type }, body };
  return fetch(`${httpUrl}/millrace.v1.BrokerService/${method}`, options);
}

describe('plain JSON', () => {
  test('the shapes that people type', async () => {
    const serving = await serve();
    const publish = { topic: 'orders', records: [{ key: 'k1', value: 'aGVsbG8=', headers: { type: 'OrderPlaced' } }] };
    const published = await post(serving, 'Publish', JSON.stringify(publish), 'application/json');
    expect(published.status).toBe(200);
    expect(await published.json()).toEqual({
      results: [{ partition: 0, offset: '0', lane: 0 }],
      ackMode: 'ACK_MODE_COMMITTED',
    });
    const ack = {
      group: 'billing',
      memberId,
      generation: 1,
      acks: [{ topic: 'orders', partition: 0, action: 'ACK_ACTION_ACK', offsets: ['4', '7'] }],
    };
    const acked = await post(serving, 'Ack', JSON.stringify(ack), 'application/json');
    expect(await acked.json()).toEqual({
      results: [{ topic: 'orders', partition: 0, lane: 0, status: 'ACK_STATUS_OK', committedOffset: '1' }],
    });
    expect(serving.broker.acks[0]!.entries[0]!.runs).toEqual([4, 4, 7, 7]);
    const heartbeat = await post(
      serving,
      'Heartbeat',
      JSON.stringify({ group: 'b', memberId, generation: 1 }),
      'application/json',
    );
    expect(await heartbeat.json()).toEqual({ generation: '0', heartbeatInterval: '3s' });
  });

  test.each([
    ['no JSON at all', '{"topic": ', 'MALFORMED_REQUEST'],
    ['a field that does not exist', '{"topik": "orders"}', 'MALFORMED_REQUEST'],
    ['a value of the wrong type', '{"topic": 7}', 'MALFORMED_REQUEST'],
    ['an empty body', '', 'MALFORMED_REQUEST'],
    ['a record that is not base64', '{"topic": "orders", "records": [{"value": "*"}]}', 'MALFORMED_REQUEST'],
    ['an empty batch', '{"topic": "orders", "records": []}', 'INVALID_FIELD'],
  ])('%s gets a clear error', async (_what, body, reason) => {
    const response = await post(await serve(), 'Publish', body, 'application/json');
    expect(response.status).toBe(400);
    const error = (await response.json()) as { code: string; message: string; details: { debug: unknown }[] };
    expect(error.code).toBe('invalid_argument');
    expect(error.message).not.toBe('');
    expect(error.details[0]).toMatchObject({ type: 'google.rpc.ErrorInfo', debug: { reason, domain: 'millrace' } });
  });
});

test.each([
  ['application/proto', Buffer.from([0x0a, 0xff])],
  ['application/grpc-web+proto', Buffer.from([0, 0, 0, 0, 2, 0x0a, 0xff])],
  ['application/grpc-web+proto', Buffer.from([0, 0, 0, 0, 9, 0x0a])],
  ['application/grpc-web+json', Buffer.from([0, 0, 0, 0, 1, 0x7b])],
])('malformed bytes as %s are INVALID_ARGUMENT with a reason', async (type, body) => {
  for (const method of ['Publish', 'Ack']) {
    const response = await post(await serve(), method, body, type);
    const answer = Buffer.from(await response.arrayBuffer()).toString('latin1');
    if (type === 'application/proto') expect(JSON.parse(answer)).toMatchObject({ code: 'invalid_argument' });
    else expect(answer).toContain('grpc-status: 3');
    const trailer = /grpc-status-details-bin: (\S+)/.exec(answer)?.[1];
    const details = trailer === undefined ? answer : Buffer.from(trailer, 'base64').toString('latin1');
    expect(details).toContain('MALFORMED_REQUEST');
  }
});

test('malformed JSON that opens a stream ends it with the reason', async () => {
  const body = Buffer.from('\0\0\0\0\x01{', 'latin1');
  const response = await post(await serve(), 'Subscribe', body, 'application/connect+json');
  const answer = await response.text();
  expect(answer).toContain('invalid_argument');
  expect(answer).toContain('MALFORMED_REQUEST');
});

test('a client over HTTP/2 that is killed is noticed at once, and not by a ping', async () => {
  const { broker, httpPort, httpUrl } = await serve();
  const socket = connect(httpPort, '127.0.0.1');
  const session = connectHttp2(httpUrl, { createConnection: () => socket });
  const request = session.request({
    ':method': 'POST',
    ':path': '/millrace.v1.BrokerService/Subscribe',
    'content-type': 'application/connect+json',
  });
  const message = '{"group": "billing", "topics": ["orders"]}';
  request.end(`\0\0\0\0${String.fromCharCode(message.length)}${message}`);
  request.on('error', () => undefined);
  session.on('error', () => undefined);
  await once(request, 'data');
  socket.destroy();
  await expect.poll(() => broker.streams[0]!.closed).toBe(true);
});

test('a reader that stops shows what is held back, and tells when it flows again', async () => {
  const { broker, httpPort } = await serve();
  const socket = connect(httpPort, '127.0.0.1');
  onTestFinished(() => {
    socket.destroy();
  });
  const message = '{"group": "billing", "topics": ["orders"]}';
  const body = `\0\0\0\0${String.fromCharCode(message.length)}${message}`;
  socket.write(
    'POST /millrace.v1.BrokerService/Subscribe HTTP/1.1\r\nhost: here\r\n' +
      `content-type: application/connect+json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  await once(socket, 'data');
  socket.pause();
  const { sink } = broker.streams[0]!;
  let drains = 0;
  sink.onDrain = () => {
    drains += 1;
  };
  const field = oneRecord('x'.repeat(100_000));
  const fill = () => {
    while (sink.unsentBytes < limits.streamUnsentBytesMax) sink.send({ type: 'batch', generation: 1, field });
  };
  const patient = { timeout: 10_000 };
  let drained = -1;
  await expect
    .poll(() => {
      fill();
      const still = drains === drained;
      drained = drains;
      return still;
    }, patient)
    .toBe(true);
  expect(sink.unsentBytes).toBeLessThan(limits.streamUnsentBytesMax + 2 * field.length);
  socket.resume();
  await expect.poll(() => sink.unsentBytes).toBe(0);
  expect(drains).toBeGreaterThan(drained);
  socket.destroy();
  await expect.poll(() => broker.streams[0]!.closed).toBe(true);
});

describe('operations', () => {
  test('health, readiness and metrics', async () => {
    let ok = false;
    const { httpUrl } = await serve({ ready: () => ({ ok, role: 'standby', reasons: ['standing by'] }) });
    expect((await fetch(`${httpUrl}/healthz`)).status).toBe(200);
    const standby = await fetch(`${httpUrl}/readyz`);
    expect([standby.status, await standby.text()]).toEqual([503, 'standing by\n']);
    const any = await fetch(`${httpUrl}/readyz?role=any`);
    expect([any.status, await any.text()]).toEqual([200, 'standby\n']);
    ok = true;
    expect((await fetch(`${httpUrl}/readyz`)).status).toBe(200);
    const metrics = await fetch(`${httpUrl}/metrics`);
    expect(metrics.headers.get('content-type')).toContain('text/plain');
    expect(await metrics.text()).toContain('process_resident_memory_bytes');
    expect((await fetch(`${httpUrl}/nothing`)).status).toBe(404);
  });

  test('a standby that has no gRPC yet answers calls over HTTP with NOT_OWNER', async () => {
    const serving = await serve({ services: () => null });
    const response = await post(serving, 'Publish', '{"topic": "orders", "records": [{}]}', 'application/json');
    expect(response.status).toBe(503);
    expect(await response.text()).toContain('NOT_OWNER');
  });

  test('a client that connects and hangs up, or talks nonsense, harms nobody', async () => {
    const { httpPort, httpUrl } = await serve();
    for (const words of ['', 'PRI ', 'hello\r\n\r\n', 'POST /millrace.v1.BrokerService/Publish HTTP/1.1\r\n']) {
      const socket = connect(httpPort, '127.0.0.1');
      await once(socket, 'connect');
      socket.end(words);
      socket.resume();
      await closed(socket);
    }
    expect((await fetch(`${httpUrl}/healthz`)).status).toBe(200);
  });
});
