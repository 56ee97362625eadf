import { once } from 'node:events';
import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { expect, onTestFinished, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { oneRecord } from '../fake-broker.ts';
import { serve } from '../serving.ts';

interface Call {
  readonly path: string;
  readonly body: object;
}

const mib = 1_048_576;
const read = { path: 'MessageService/ReadMessages', body: { topic: 'orders', maxBytes: mib } };
const pull = { path: 'BrokerService/Pull', body: { group: 'billing', topics: ['orders'] } };
const publish = { path: 'BrokerService/Publish', body: { topic: 'orders', records: [{ value: 'YQ==' }] } };
const busy = { ':status': 429, 'millrace-reason': 'CONNECTION_BUSY' };
/** As JSON, one such answer needs more than half of what a connection may leave unread. */
const fields = Array.from({ length: 3 }, () => oneRecord('x'.repeat(mib)));

/** A client that gives the broker no window for answers. */
function unreadingSession(port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 } });
  session.on('error', () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  return session;
}

async function headersOf(session: ClientHttp2Session, { path, body }: Call): Promise<IncomingHttpHeaders> {
  const headers = { ':method': 'POST', ':path': `/millrace.v1.${path}`, 'content-type': 'application/json' };
  const stream = session.request(headers).on('error', () => undefined);
  stream.end(JSON.stringify(body));
  const [answered] = (await once(stream, 'response')) as [IncomingHttpHeaders];
  return answered;
}

async function answerOf(url: string, { path, body }: Call): Promise<number> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`${url}/millrace.v1.${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  await response.arrayBuffer();
  return response.status;
}

test('an answer over HTTP is counted until its client has read it, and no longer, however its call ends', async () => {
  const account = roomyAccount();
  const answers = account.kind('answers');
  const { broker, httpPort, httpUrl, bugs } = await serve({ account });
  broker.fields = fields;
  for (const call of [read, pull, publish]) expect(await answerOf(httpUrl, call)).toBe(200);
  await expect.poll(() => answers.bytes).toBe(0);
  const session = unreadingSession(httpPort);
  await headersOf(session, read);
  expect(answers.bytes).toBeGreaterThan(4 * mib);
  session.destroy();
  await expect.poll(() => answers.bytes).toBe(0);
  expect(bugs).toEqual([]);
});

test('a client that reads nothing over HTTP is refused before the work, and others are served', async () => {
  const account = roomyAccount();
  const answers = account.kind('answers');
  const clock = new FakeClock();
  const { broker, httpPort, httpUrl, bugs } = await serve({ account, clock });
  broker.fields = fields;
  const session = unreadingSession(httpPort);
  expect(await headersOf(session, pull)).toMatchObject({ ':status': 200 });
  // It was made before the limit was met, so it goes back to its group.
  expect(await headersOf(session, pull)).toMatchObject(busy);
  const asked = broker.calls.length;
  let refused: IncomingHttpHeaders | null = null;
  void headersOf(session, { ...read, body: { ...read.body, maxBytes: limits.readBytesMax } }).then((headers) => {
    refused = headers;
  });
  await expect
    .poll(async () => {
      await clock.advance(limits.answerRoomMs);
      return refused;
    })
    .toMatchObject(busy);
  expect(broker.calls.length).toBe(asked);
  expect(answers.bytes).toBeLessThanOrEqual(8 * mib);
  for (const call of [read, pull, publish]) expect(await answerOf(httpUrl, call)).toBe(200);
  session.destroy();
  await expect.poll(() => answers.bytes).toBe(0);
  expect(bugs).toEqual([]);
});
