import { once } from 'node:events';
import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { Gauge, Registry } from 'prom-client';
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
const fields = Array.from({ length: 4 }, () => oneRecord('x'.repeat(mib)));

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
  /** While the clock moves, without which no large answer is encoded. */
  const moving = async <T>(answer: Promise<T>): Promise<T> => {
    let given: T | null = null;
    void answer.then((value) => (given = value));
    const look = async (): Promise<T | null> => {
      await clock.advance(0);
      return given;
    };
    await expect.poll(look, { timeout: 20_000 }).not.toBe(null);
    return given!;
  };
  expect(await moving(headersOf(session, pull))).toMatchObject({ ':status': 200 });
  // It was made before the limit was met, so it goes back to its group.
  expect(await moving(headersOf(session, pull))).toMatchObject(busy);
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
  for (const call of [read, pull, publish]) expect(await moving(answerOf(httpUrl, call))).toBe(200);
  session.destroy();
  await expect.poll(() => answers.bytes).toBe(0);
  expect(bugs).toEqual([]);
});

test('pages of operators that nobody reads are counted nowhere, stay for ever, or keep a look at the broker out', async () => {
  const account = roomyAccount();
  const answers = account.kind('answers');
  const clock = new FakeClock();
  const metrics = new Registry();
  new Gauge({ name: 'large', help: 'x'.repeat(mib), registers: [metrics] });
  const { httpPort, bugs } = await serve({ account, clock, metrics });
  const session = unreadingSession(httpPort);
  const page = async (path: string): Promise<IncomingHttpHeaders> => {
    const stream = session.request({ ':path': path }).on('error', () => undefined);
    const [answered] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    return answered;
  };
  const statuses: unknown[] = [];
  for (let n = 0; n < 12; n += 1) statuses.push((await page('/metrics'))[':status']);
  expect(statuses).toEqual([...Array<number>(7).fill(200), ...Array<number>(5).fill(429)]);
  expect(answers.bytes).toBeLessThanOrEqual(8 * mib);
  expect(await page('/metrics')).toMatchObject(busy);
  expect(await page('/readyz')).toMatchObject({ ':status': 200 });
  await clock.advance(2 * limits.unreadAnswerMs);
  await expect.poll(() => answers.bytes).toBe(0);
  expect(await page('/metrics')).toMatchObject({ ':status': 200 });
  expect(bugs).toEqual([]);
});

test('a call over HTTP counts no more than one of gRPC, which takes a half of its memory, or a stream no more', async () => {
  const account = roomyAccount();
  const streams = account.kind('streams');
  const { broker, httpUrl } = await serve({ account });
  const controller = new AbortController();
  onTestFinished(() => {
    controller.abort();
  });
  const subscribe = new Uint8Array([0, 0, 0, 0, 39, ...Buffer.from('{"group":"billing","topics":["orders"]}')]);
  void fetch(`${httpUrl}/millrace.v1.BrokerService/Subscribe`, {
    method: 'POST',
    headers: { 'content-type': 'application/connect+json' },
    body: subscribe,
    signal: controller.signal,
  }).catch(() => undefined);
  await expect.poll(() => broker.streams.length).toBe(1);
  expect(streams.bytes).toBe(limits.openHttpStreamBytes);
  controller.abort();
  await expect.poll(() => streams.bytes).toBe(0);
});

test('a call that waits keeps a body and names that nobody counts, as long as they are below 64 KiB', async () => {
  const account = roomyAccount();
  const { broker, httpUrl } = await serve({ account });
  const topics = Array.from({ length: 50 }, (_, n) => `${n}`.padEnd(200, 'x'));
  const controller = new AbortController();
  const { signal } = controller;
  const body = JSON.stringify({ group: 'billing', topics, wait: '60s' });
  const headers = { 'content-type': 'application/json' };
  const request = { method: 'POST', headers, body, signal };
  const answer = fetch(`${httpUrl}/millrace.v1.BrokerService/Pull`, request).catch(() => undefined);
  await expect.poll(() => broker.calls.length).toBe(1);
  for (const name of ['bodies', 'decoded'] as const) {
    expect(account.kind(name).bytes, name).toBeGreaterThanOrEqual(10_000);
  }
  controller.abort();
  await answer;
  for (const name of ['bodies', 'decoded'] as const) await expect.poll(() => account.kind(name).bytes).toBe(0);
});
