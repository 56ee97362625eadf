import { once } from 'node:events';
import { connect as connectHttp2, constants, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { latest } from '../latest.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { oneRecord } from '../fake-broker.ts';
import { serve, type Serving } from '../serving.ts';

const ackPath = '/millrace.v1.BrokerService/Ack';
const readPath = '/millrace.v1.MessageService/ReadMessages';
const publishStreamPath = '/millrace.v1.BrokerService/PublishStream';
const heartbeatPath = '/millrace.v1.BrokerService/Heartbeat';
const heartbeat = '{"group":"billing","memberId":"member-1","generation":1}';

async function rawSocket({ httpPort }: Serving): Promise<Socket> {
  const socket = connect(httpPort, '127.0.0.1');
  socket.on('error', () => undefined);
  onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, 'connect');
  return socket;
}

/** Also after an error, which `once` would throw. */
function closed(emitter: Socket | ClientHttp2Stream): Promise<void> {
  return new Promise((resolve) => emitter.once('close', resolve));
}

/** What the broker sends until it ends the connection. */
async function answerTo(serving: Serving, request: string): Promise<string> {
  const socket = await rawSocket(serving);
  socket.write(request, 'latin1');
  const answer: string[] = [];
  socket.setEncoding('latin1').on('data', (text: string) => answer.push(text));
  await closed(socket);
  return answer.join('');
}

function http1(path: string, body: string, headers: readonly string[]): string {
  const length = headers.some((line) => /^(content-length|transfer)/.test(line))
    ? []
    : [`content-length: ${body.length}`];
  return [`POST ${path} HTTP/1.1`, 'connection: close', ...length, ...headers, '', body].join('\r\n');
}

interface Http2Answer {
  readonly status: number | undefined;
  readonly reason: string | undefined;
  readonly body: string;
  readonly rst: number | undefined;
  /** The reason in the trailers of gRPC. */
  readonly trailers: string | undefined;
}

async function http2Answer(
  { httpUrl }: Serving,
  headers: OutgoingHttpHeaders,
  body: Buffer | string | null,
): Promise<Http2Answer> {
  const session = connectHttp2(httpUrl);
  session.on('error', () => undefined);
  const stream = session.request({ ':method': 'POST', 'content-type': 'application/json', ...headers });
  stream.on('error', () => undefined);
  const seen: Record<string, unknown> = {};
  const chunks: Buffer[] = [];
  const trailers: Record<string, unknown> = {};
  stream.on('trailers', (given: object) => void Object.assign(trailers, given));
  stream.on('response', (given) => Object.assign(seen, given)).on('data', (chunk: Buffer) => chunks.push(chunk));
  if (body !== null && !stream.writableEnded) stream.end(body);
  await closed(stream);
  session.destroy();
  return {
    status: seen[':status'] as number | undefined,
    reason: seen['millrace-reason'] as string | undefined,
    body: Buffer.concat(chunks).toString(),
    rst: stream.rstCode,
    trailers: trailers['millrace-reason'] as string | undefined,
  };
}

/** Nothing that a client does is a bug of the broker, and the broker goes on. */
async function expectWell({ bugs, httpUrl }: Serving): Promise<void> {
  expect((await fetch(`${httpUrl}/healthz`)).status).toBe(200);
  expect(bugs).toEqual([]);
}

const oddHosts = ['', ':::', 'a b', 'http://[', '%%%', '<script>', '[::1', '\x80\xff', 'x'.repeat(8_000), '@', '/..//'];

describe('an odd address of a request is no bug', () => {
  test.each(oddHosts)('as Host over HTTP/1.1: %j', async (host) => {
    const serving = await serve();
    const request = http1(heartbeatPath, heartbeat, [`host: ${host}`, 'content-type: application/json']);
    expect(await answerTo(serving, request)).toMatch(/^HTTP\/1\.1 200 /);
    await expectWell(serving);
  });

  test.each(oddHosts.filter((host) => !/[\x80-\xff]/.test(host)))(
    'as :authority over HTTP/2: %j',
    async (authority) => {
      const serving = await serve();
      const answer = await http2Answer(serving, { ':authority': authority, ':path': heartbeatPath }, heartbeat);
      expect([answer.status, answer.rst]).toEqual(
        answer.status === undefined ? [undefined, expect.any(Number)] : [200, 0],
      );
      await expectWell(serving);
    },
  );

  test.each(['*', '//', '/%', '/consumer-groups/%ff', 'http://[/x', `http://a${heartbeatPath}`, '/?'])(
    'as a path: %j',
    async (path) => {
      const serving = await serve();
      expect(await answerTo(serving, http1(path, '{}', ['host: a', 'content-type: application/json']))).toMatch(
        /^HTTP\/1\.1 4\d\d /,
      );
      await http2Answer(serving, { ':path': path }, '{}');
      await expectWell(serving);
    },
  );

  test.each(['GET', 'DELETE', 'OPTIONS', 'CONNECT', 'PURGE', 'HEAD'])('as a method: %s', async (method) => {
    const serving = await serve();
    const request = `${method} ${heartbeatPath} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`;
    expect(await answerTo(serving, request)).toMatch(/^(HTTP\/1\.1 [24]\d\d |$)/);
    const path = method === 'CONNECT' ? { ':authority': 'a' } : { ':path': heartbeatPath };
    await http2Answer(serving, { ':method': method, 'content-type': undefined, ...path }, '');
    await expectWell(serving);
  });
});

describe('a request that breaks off is no bug', () => {
  test.each([
    ['within its first line', 'POST /millra'],
    ['within its headers', `POST ${ackPath} HTTP/1.1\r\nhost: a\r\ncontent-ty`],
    [
      'within its body',
      http1(ackPath, '{"group"', ['host: a', 'content-type: application/json', 'content-length: 100']),
    ],
    ['before its body', http1(ackPath, '', ['host: a', 'content-type: application/json', 'content-length: 100'])],
    [
      'within a chunk',
      http1(ackPath, 'ff\r\nabc', ['host: a', 'content-type: application/json', 'transfer-encoding: chunked']),
    ],
    [
      'between two chunks',
      http1(ackPath, '1\r\n{\r\n', ['host: a', 'content-type: application/json', 'transfer-encoding: chunked']),
    ],
    ['after an operator path', `GET /metrics HTTP/1.1\r\nhost: a\r\n\r\nGET /metrics HTTP/1.1\r\n`],
  ])('over HTTP/1.1 %s', async (_where, begin) => {
    for (const leave of ['destroy', 'end', 'resetAndDestroy'] as const) {
      const serving = await serve();
      const socket = await rawSocket(serving);
      socket.resume();
      await new Promise((resolve) => socket.write(begin, resolve));
      socket[leave]();
      await closed(socket);
      await expectWell(serving);
    }
  });

  test.each([
    [
      'bad chunks',
      http1(ackPath, 'ZZ\r\nabc\r\n', ['host: a', 'content-type: application/json', 'transfer-encoding: chunked']),
    ],
    [
      'a chunk that is longer than it says',
      http1(ackPath, '1\r\n{}}}\r\n0\r\n\r\n', [
        'host: a',
        'content-type: application/json',
        'transfer-encoding: chunked',
      ]),
    ],
    ['two lengths', http1(ackPath, '{}', ['host: a', 'content-length: 2', 'content-length: 3'])],
    [
      'a length and chunks',
      http1(ackPath, '0\r\n\r\n', ['host: a', 'content-length: 5', 'transfer-encoding: chunked']),
    ],
    ['a control character in a header', http1(ackPath, '{}', ['host: a', 'x-odd: a\x01b'])],
    ['no HTTP', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'],
  ])('%s over HTTP/1.1', async (_what, request) => {
    const serving = await serve();
    expect(await answerTo(serving, request)).toMatch(/^HTTP\/1\.1 400 /);
    await expectWell(serving);
  });

  test.each([ackPath, '/millrace.v1.BrokerService/Subscribe', publishStreamPath])(
    'a stream of HTTP/2 that is reset, or whose connection ends, within the request to %s',
    async (path) => {
      const type = path === ackPath ? 'application/json' : 'application/connect+json';
      for (const leave of ['cancel', 'error', 'session'] as const) {
        const serving = await serve();
        const session = connectHttp2(serving.httpUrl);
        session.on('error', () => undefined);
        const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': type });
        stream.on('error', () => undefined);
        await new Promise((resolve) => stream.write(Buffer.from([0, 0, 0, 0, 9, 0x7b]), resolve));
        await new Promise((resolve) => session.ping(resolve));
        if (leave === 'session') session.destroy();
        else stream.close(leave === 'cancel' ? constants.NGHTTP2_CANCEL : constants.NGHTTP2_INTERNAL_ERROR);
        await closed(stream);
        await expectWell(serving);
        session.destroy();
      }
    },
  );
});

describe('what a call does not take is refused with a reason', () => {
  const gzipped = gzipSync('{}');

  test.each([
    ['application/json', { 'content-encoding': 'gzip' }, gzipped],
    ['application/proto', { 'content-encoding': 'deflate' }, gzipped],
    [
      'application/grpc-web+proto',
      { 'grpc-encoding': 'gzip' },
      Buffer.concat([Buffer.from([1, 0, 0, 0, gzipped.length]), gzipped]),
    ],
    ['application/grpc-web+json', {}, Buffer.concat([Buffer.from([1, 0, 0, 0, gzipped.length]), gzipped])],
  ])('a compressed request as %s %j', async (type, headers, body) => {
    const serving = await serve();
    const response = await fetch(serving.httpUrl + heartbeatPath, {
      method: 'POST',
      headers: { 'content-type': type, ...headers } as Record<string, string>,
      body,
    });
    const text = await response.text();
    const reason = response.headers.get('millrace-reason') ?? /millrace-reason: (\w+)/.exec(text)?.[1];
    expect(reason).toBe('COMPRESSION_REFUSED');
    await expectWell(serving);
  });

  test('a compressed message of a stream', async () => {
    const serving = await serve();
    const body = Buffer.concat([Buffer.from([1, 0, 0, 0, gzipped.length]), gzipped]);
    for (const headers of [{}, { 'connect-content-encoding': 'gzip' }]) {
      const stream = { ':path': publishStreamPath, 'content-type': 'application/connect+json', ...headers };
      expect((await http2Answer(serving, stream, body)).body).toContain('COMPRESSION_REFUSED');
    }
    await expectWell(serving);
  });

  test.each(['', 'text/plain', 'application/json; charset=latin1', 'application/connect+json', 'application/xml'])(
    'the content type %j',
    async (type) => {
      const serving = await serve();
      const { status, reason, body } = await http2Answer(
        serving,
        { ':path': heartbeatPath, 'content-type': type },
        '{}',
      );
      expect([status, reason]).toEqual([415, 'MALFORMED_REQUEST']);
      expect(JSON.parse(body)).toMatchObject({ code: 'invalid_argument', details: [{ debug: { reason } }] });
      await expectWell(serving);
    },
  );
});

describe('a timeout of a call', () => {
  const types = ['application/json', 'application/grpc+json', 'application/grpc-web+json'] as const;

  function timed(serving: Serving, type: string, value: string): Promise<Http2Answer> {
    const name = type === 'application/json' ? 'connect-timeout-ms' : 'grpc-timeout';
    const prefix = type === 'application/json' ? '' : `\0\0\0\0${String.fromCharCode(heartbeat.length)}`;
    const headers = { ':path': heartbeatPath, 'content-type': type, [name]: value };
    return http2Answer(serving, headers, Buffer.from(prefix + heartbeat, 'latin1'));
  }

  test.each(types)(
    'a timeout of more than the 24 days that a timer can wait does not end a call at once: %s',
    async (type) => {
      const serving = await serve();
      const warnings: string[] = [];
      const onWarning = ({ message }: Error): void => void warnings.push(message);
      process.on('warning', onWarning);
      onTestFinished(() => void process.off('warning', onWarning));
      const { status, body } = await timed(serving, type, type === 'application/json' ? '9999999999' : '99999999H');
      expect([status, body]).toEqual([200, expect.not.stringMatching(/deadline|grpc-status: 4/)]);
      expect(warnings).toEqual([]);
      await expectWell(serving);
    },
  );

  test.each(types)('a malformed timeout is refused with a reason: %s', async (type) => {
    const serving = await serve();
    const { reason, trailers, body } = await timed(serving, type, '1 S');
    expect([reason, trailers, body].join()).toContain('MALFORMED_REQUEST');
    await expectWell(serving);
  });
});

describe('what a client leaves undone ends', () => {
  test('a request without its last byte is refused after its time', async () => {
    const clock = new FakeClock();
    const serving = await serve({ clock });
    const socket = await rawSocket(serving);
    const headers = ['host: a', 'content-type: application/json', 'content-length: 3'];
    socket.write(http1(heartbeatPath, '{}', headers));
    await expect.poll(() => clock.nextTimerMs).not.toBeNull();
    const answered = once(socket, 'data');
    const ended = closed(socket);
    await clock.advance(limits.partialRequestMs);
    expect(socket.bytesRead).toBe(0);
    await clock.advance(latest(limits.partialRequestMs) - limits.partialRequestMs);
    expect(String((await answered)[0])).toContain('MALFORMED_REQUEST');
    socket.resume();
    await ended;
    await expectWell(serving);
  });

  test('an answer that nobody reads is given up after its time', async () => {
    const clock = new FakeClock();
    const account = roomyAccount();
    const serving = await serve({ clock, account });
    serving.broker.fields = Array.from({ length: 120 }, (_, at) => oneRecord('x'.repeat(100_000), BigInt(at)));
    const socket = await rawSocket(serving);
    const ended = closed(socket);
    socket.pause();
    socket.write(http1(readPath, '{"topic":"orders"}', ['host: a', 'content-type: application/json']));
    await expect.poll(() => account.kind('connections').bytes).toBeGreaterThan(0);
    const connections = async (): Promise<number> => {
      await clock.advance(limits.unreadAnswerMs);
      return account.kind('connections').bytes;
    };
    await expect.poll(connections, { timeout: 20_000 }).toBe(0);
    socket.resume();
    await ended;
    await expectWell(serving);
  });

  test('a request that is refused is not read for ever', async () => {
    const serving = await serve();
    const socket = await rawSocket(serving);
    socket.setEncoding('latin1');
    const answer: string[] = [];
    socket.on('data', (text: string) => answer.push(text));
    socket.write(http1(ackPath, '', ['host: a', 'content-type: application/json', 'transfer-encoding: chunked']));
    const ended = closed(socket);
    const piece = `100000\r\n${'x'.repeat(0x100000)}\r\n`;
    for (let mib = 0; mib < 30 && !socket.destroyed; mib += 1) {
      await Promise.race([ended, new Promise((resolve) => socket.write(piece, resolve))]);
    }
    await ended;
    expect(socket.bytesWritten).toBeLessThan(25 * 1_048_576);
    expect(answer.join('')).toContain('REQUEST_TOO_LARGE');
    await expectWell(serving);
  });
});
