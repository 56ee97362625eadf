import { once } from 'node:events';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { latest } from '../latest.ts';
import { closed } from '../raw-call.ts';
import { bareConnection, callHeaders, frame } from '../../hostile/frames/frames.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { serve } from '../serving.ts';

const publishPath = '/millrace.v1.BrokerService/Publish';
const subscribePath = '/millrace.v1.BrokerService/Subscribe';
const message = Buffer.from('\0\0\0\0\x27{"group":"billing","topics":["orders"]}', 'latin1');

async function rawSocket(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, 'connect');
  return socket;
}

test('requests without their last byte are counted, limited for a connection, and given back', async () => {
  const account = roomyAccount();
  const { httpUrl, httpPort, bugs } = await serve({ account });
  const bodies = account.kind('bodies');
  const session = connectHttp2(httpUrl);
  session.on('error', () => undefined);
  const statuses: unknown[] = [];
  for (let call = 0; call < 6; call += 1) {
    const stream = session.request({ ':method': 'POST', ':path': publishPath, 'content-type': 'application/proto' });
    stream.on('error', () => undefined).on('response', (headers) => statuses.push(headers['millrace-reason']));
    stream.resume();
    stream.write(Buffer.alloc(3_500_000));
  }
  await expect.poll(() => statuses, { timeout: 20_000 }).toContain('CONNECTION_BUSY');
  expect(bodies.bytes).toBeGreaterThan(3_500_000);
  const socket = await rawSocket(httpPort);
  const before = bodies.bytes;
  socket.write(
    `POST ${publishPath} HTTP/1.1\r\nhost: a\r\ncontent-type: application/proto\r\ncontent-length: 900000\r\n\r\n`,
  );
  socket.write(Buffer.alloc(800_000));
  await expect.poll(() => bodies.bytes, { timeout: 20_000 }).toBeGreaterThan(before);
  session.destroy();
  socket.destroy();
  await expect.poll(() => [bodies.bytes, account.kind('connections').bytes], { timeout: 20_000 }).toEqual([0, 0]);
  expect(bugs).toEqual([]);
});

test('a connection of HTTP/1.1 cannot have more open requests than one of HTTP/2', async () => {
  let looks = 0;
  const ready = () => {
    looks += 1;
    return { ok: true, role: 'active' as const, reasons: [] };
  };
  const { broker, httpPort } = await serve({ ready });
  const socket = await rawSocket(httpPort);
  const answer: string[] = [];
  socket.setEncoding('latin1').on('data', (text: string) => answer.push(text));
  const body = '\0\0\0\0\x27{"group":"billing","topics":["orders"]}';
  const subscribe =
    'POST /millrace.v1.BrokerService/Subscribe HTTP/1.1\r\nhost: a\r\ncontent-type: application/connect+json\r\n' +
    `content-length: ${body.length}\r\n\r\n${body}`;
  socket.write(subscribe, 'latin1');
  await expect.poll(() => broker.streams.length, { timeout: 20_000 }).toBe(1);
  socket.write('GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(10_000));
  await expect.poll(() => looks, { timeout: 20_000 }).toBe(limits.httpConnectionCallsMax - 1);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  broker.streams[0]!.sink.end(null);
  // The reset of the connection may overtake the refusal that ends it.
  await closed;
  expect(answer.join('').split('HTTP/1.1 200').length).toBeLessThanOrEqual(limits.httpConnectionCallsMax + 1);
});

test('a connection that ends with a CONNECT behind other requests leaves none of them open', async () => {
  const account = roomyAccount();
  const { broker, httpPort, bugs } = await serve({ account });
  const head = `POST ${subscribePath} HTTP/1.1\r\nhost: a\r\ncontent-type: application/connect+json\r\n`;
  const subscribe = `${head}content-length: ${message.length}\r\n\r\n${message.toString('latin1')}`;
  const socket = await rawSocket(httpPort);
  const over = closed(socket.resume());
  socket.write(subscribe.repeat(3), 'latin1');
  await expect.poll(() => broker.streams.length, { timeout: 20_000 }).toBe(3);
  socket.write('CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n');
  await over;
  await expect.poll(() => account.kind('streams').bytes, { timeout: 20_000 }).toBe(0);
  expect(broker.streams.map((stream) => stream.closed)).toEqual([true, true, true]);
  expect(bugs).toEqual([]);
});

test('a closing connection of HTTP/2 whose client has gone is closed as any other', async () => {
  const clock = new FakeClock();
  const account = roomyAccount();
  const { broker, httpPort, bugs } = await serve({ account, clock });
  const startMs = clock.nowMs();
  const socket = await bareConnection(httpPort);
  socket.resume();
  const headers = callHeaders(subscribePath, 'application/connect+json');
  socket.write(Buffer.concat([frame(1, 4, 1, headers), frame(0, 1, 1, message)]));
  await expect.poll(() => broker.streams.length, { timeout: 20_000 }).toBe(1);
  const goaway = frame(7, 0, 0, Buffer.alloc(8));
  const dataOfNoStream = frame(0, 0, 0, Buffer.alloc(1));
  await new Promise((resolve) => socket.write(Buffer.concat([goaway, dataOfNoStream]), resolve));
  socket.resetAndDestroy();
  const held = async (): Promise<number[]> => {
    await clock.advance(limits.keepaliveMs);
    return [account.kind('streams').bytes, account.kind('connections').bytes];
  };
  await expect.poll(held, { timeout: 20_000 }).toEqual([0, 0]);
  expect(clock.nowMs() - startMs).toBeLessThan(limits.slowReaderMs);
  expect(bugs).toEqual([]);
});

/** A ping of a connection that is open yet. */
async function answered(session: ClientHttp2Session): Promise<void> {
  if (session.destroyed || session.closed) return;
  await new Promise((resolve) => session.ping(resolve));
}

test('a connection of HTTP/2 without a call is closed, and one with a call is not', async () => {
  const clock = new FakeClock();
  const { httpUrl, broker } = await serve({ clock });
  const [idle, busy] = [connectHttp2(httpUrl), connectHttp2(httpUrl)];
  const closed = new Promise((resolve) => idle.once('close', resolve));
  const body = Buffer.from('\0\0\0\0\x27{"group":"billing","topics":["orders"]}', 'latin1');
  const subscribe = { ':method': 'POST', ':path': '/millrace.v1.BrokerService/Subscribe' };
  const stream = busy.request({ ...subscribe, 'content-type': 'application/connect+json' });
  stream.on('error', () => undefined).resume();
  stream.end(body);
  await new Promise((resolve) => idle.ping(resolve));
  await expect.poll(() => broker.streams.length, { timeout: 20_000 }).toBe(1);
  for (let passedMs = 0; passedMs <= latest(limits.idleConnectionMs); passedMs += limits.keepaliveMs / 2) {
    await Promise.all([idle, busy].map(answered));
    await clock.advance(limits.keepaliveMs / 2);
  }
  await closed;
  expect(busy.destroyed).toBe(false);
  busy.destroy();
});
