import { once } from 'node:events';
import { connect, type OutgoingHttpHeaders } from 'node:http2';
import { expect, onTestFinished, test } from 'vitest';
import { framed } from '../raw-call.ts';
import { serve, type Serving } from '../serving.ts';

const servicePath = '/millrace.v1.BrokerService';
const pull = '{"group":"billing","topics":["orders"],"wait":"60s"}';
const heartbeat = '{"group":"billing","memberId":"member-1","generation":1}';

interface Answer {
  readonly status: number;
  readonly reason: string | undefined;
}

/** Also where the reason stands in the body: in the end of a stream, or in trailers of gRPC-Web. */
async function answerOf(serving: Serving, headers: OutgoingHttpHeaders, body: Buffer): Promise<Answer> {
  const session = connect(serving.httpUrl);
  onTestFinished(() => {
    session.destroy();
  });
  const stream = session.request({ ':method': 'POST', te: 'trailers', ...headers });
  const seen: Record<string, unknown> = {};
  const note = (given: object): void => {
    Object.assign(seen, given);
  };
  const chunks: Buffer[] = [];
  stream
    .on('response', note)
    .on('trailers', note)
    .on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.end(body);
  await once(stream, 'close');
  const inBody = /millrace-reason(?:": ?\[")?(?:: )?(\w+)/.exec(Buffer.concat(chunks).toString('latin1'))?.[1];
  return { status: Number(seen[':status']), reason: (seen['millrace-reason'] as string | undefined) ?? inBody };
}

const call = (type: string, name: string, json: string) => {
  const isEnveloped = type !== 'application/json';
  return {
    headers: { ':path': `${servicePath}/${name}`, 'content-type': type },
    body: isEnveloped ? framed(Buffer.from(json)) : Buffer.from(json),
  };
};

test.each([
  ['application/json', 'Heartbeat', 'connect-timeout-ms', ['soon', '-1', '1.5', '12345678901', '1, 2']],
  ['application/connect+json', 'Subscribe', 'connect-timeout-ms', ['soon', '12345678901']],
  ['application/grpc-web+json', 'Heartbeat', 'grpc-timeout', ['5', '123456789S', '1s', 'S']],
  ['application/grpc+json', 'Heartbeat', 'grpc-timeout', ['5', '123456789S', '1s', 'S']],
])('a malformed timeout of a call over HTTP is refused with a reason: %s %s', async (type, name, header, timeouts) => {
  const serving = await serve();
  for (const timeout of timeouts) {
    const { headers, body } = call(type, name, heartbeat);
    const { reason } = await answerOf(serving, { ...headers, [header]: timeout }, body);
    expect([timeout, reason]).toEqual([timeout, 'MALFORMED_REQUEST']);
  }
  expect(serving.broker.calls).toEqual([]);
  expect(serving.bugs).toEqual([]);
});

test.each([
  ['application/json', { 'connect-timeout-ms': '9999999999' }],
  ['application/grpc-web+json', { 'grpc-timeout': '99999999H' }],
  ['application/grpc+json', { 'grpc-timeout': '99999999H' }],
])('a timeout that no timer can have does not end a call over HTTP at once: %s', async (type, timeout) => {
  const serving = await serve();
  const { headers, body } = call(type, 'Pull', pull);
  const session = connect(serving.httpUrl);
  onTestFinished(() => {
    session.destroy();
  });
  const stream = session.request({ ':method': 'POST', ...headers, ...timeout });
  let answered = false;
  stream.on('response', () => (answered = true)).on('error', () => undefined);
  stream.end(body);
  await expect.poll(() => serving.broker.calls.length).toBe(1);
  // A call whose timer has ended at once would be answered before another call and a ping are.
  const other = call('application/json', 'Heartbeat', heartbeat);
  for (let times = 0; times < 10; times += 1) await answerOf(serving, other.headers, other.body);
  await new Promise((resolve) => session.ping(resolve));
  expect(answered).toBe(false);
});

test.each([
  ['application/json', { 'connect-timeout-ms': '1' }],
  ['application/grpc-web+json', { 'grpc-timeout': '1m' }],
  ['application/grpc+json', { 'grpc-timeout': '1m' }],
])('a call over HTTP that is not answered within its deadline ends with a reason: %s', async (type, timeout) => {
  const serving = await serve();
  const { headers, body } = call(type, 'Pull', pull);
  expect(await answerOf(serving, { ...headers, ...timeout }, body)).toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
  expect(serving.bugs).toEqual([]);
});

test.each(['application/connect+json', 'application/grpc-web+proto', 'application/grpc'])(
  'a stream of requests over HTTP/1.1 is refused with a reason, as %s',
  async (type) => {
    const { httpUrl, bugs } = await serve();
    const response = await fetch(`${httpUrl}${servicePath}/PublishStream`, {
      method: 'POST',
      headers: { 'content-type': type },
      body: new Uint8Array(framed(Buffer.from('{}'))),
    });
    expect([response.status, response.headers.get('millrace-reason')]).toEqual([505, 'MALFORMED_REQUEST']);
    expect(await response.json()).toMatchObject({ details: [{ debug: { reason: 'MALFORMED_REQUEST' } }] });
    expect(bugs).toEqual([]);
  },
);
