import { once } from 'node:events';
import { connect } from 'node:http2';
import { cors } from '@connectrpc/connect';
import { describe, expect, onTestFinished, test } from 'vitest';
import { FakeClock } from '../../support/fake-clock.ts';
import { serve, type Serving } from '../serving.ts';

const page = 'https://app.example';
const path = '/millrace.v1.TopicService/GetTopic';

interface Warning {
  readonly origin: string;
  readonly text: string;
}

async function serveTo(corsOrigins?: readonly string[], clock?: FakeClock): Promise<Serving & { warnings: Warning[] }> {
  const warnings: Warning[] = [];
  const log = {
    error: () => undefined,
    warn: ({ origin }: { origin: string }, text: string) => warnings.push({ origin, text }),
  };
  const serving = await serve({
    ...(corsOrigins !== undefined && { corsOrigins }),
    ...(clock !== undefined && { clock }),
    log: log as never,
  });
  return { ...serving, warnings };
}

function preflight(serving: Serving, origin = page): Promise<Response> {
  const headers = {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'content-type,connect-protocol-version',
  };
  return fetch(serving.httpUrl + path, { method: 'OPTIONS', headers });
}

function getTopic(serving: Serving, contentType = 'application/json'): Promise<Response> {
  const body = '{"name": "orders"}';
  return fetch(serving.httpUrl + path, {
    method: 'POST',
    headers: { origin: page, 'content-type': contentType },
    body,
  });
}

describe('by default no web page may call the broker', () => {
  test('a preflight is refused, and the log names the origin and the setting', async () => {
    const serving = await serveTo();
    const answer = await preflight(serving);
    expect(answer.status).toBe(403);
    expect([...answer.headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([]);
    expect(serving.warnings).toEqual([{ origin: page, text: expect.stringContaining('--cors-origins') as string }]);
  });

  test('the answer to a call of a foreign page has no header that lets the page read it', async () => {
    const answer = await getTopic(await serveTo());
    expect(answer.status).toBe(200);
    expect(answer.headers.get('access-control-allow-origin')).toBe(null);
  });
});

describe('a page of an origin that is allowed', () => {
  test.each([
    ['by name', [page, 'http://localhost:3000'], page],
    ['with all others', ['*'], '*'],
  ])('%s may send and read what the protocols need', async (_how, origins, allowed) => {
    const serving = await serveTo(origins);
    const asked = await preflight(serving);
    expect([asked.status, asked.headers.get('access-control-allow-origin')]).toEqual([204, allowed]);
    expect(asked.headers.get('access-control-allow-methods')).toBe('POST, GET');
    const headers = asked.headers.get('access-control-allow-headers')!.toLowerCase().split(', ');
    expect(headers).toEqual(cors.allowedHeaders.map((name) => name.toLowerCase()));
    expect(headers).toEqual(expect.arrayContaining(['content-type', 'connect-protocol-version', 'x-grpc-web']));
    const answer = await getTopic(serving);
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([200, allowed]);
    const exposed = answer.headers.get('access-control-expose-headers')!.toLowerCase().split(', ');
    expect(exposed).toEqual(expect.arrayContaining(['grpc-status', 'millrace-reason']));
    expect(answer.headers.get('vary')).toContain('Origin');
    expect(serving.warnings).toEqual([]);
  });

  test('may read errors, what operators ask for, and answers over HTTP/2', async () => {
    const serving = await serveTo([page]);
    const failed = await getTopic(serving, 'text/plain');
    expect([failed.ok, failed.headers.get('access-control-allow-origin')]).toEqual([false, page]);
    const groups = await fetch(`${serving.httpUrl}/consumer-groups`, { headers: { origin: page } });
    expect([groups.status, groups.headers.get('access-control-allow-origin')]).toEqual([200, page]);
    const session = connect(serving.httpUrl);
    onTestFinished(() => {
      session.destroy();
    });
    const call = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/json',
      origin: page,
    });
    call.end('{"name": "orders"}');
    const [headers] = (await once(call, 'response')) as [Record<string, string>];
    expect(headers).toMatchObject({ ':status': 200, 'access-control-allow-origin': page });
  });
});

test('an origin that only begins or ends like one that is allowed is refused', async () => {
  const serving = await serveTo([page]);
  for (const origin of [`${page}.evil.example`, 'http://app.example', `${page}:8443`, 'null', 'https://app.exampl']) {
    const answer = await preflight(serving, origin);
    expect([origin, answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([origin, 403, null]);
  }
});

test('pages that ask again and again do not fill the log', async () => {
  const clock = new FakeClock();
  const serving = await serveTo([], clock);
  for (let count = 0; count < 3; count += 1) await preflight(serving);
  for (let count = 0; count < 30; count += 1) await preflight(serving, `https://page${count}.example`);
  expect(serving.warnings).toHaveLength(10);
  expect(serving.warnings.filter(({ origin }) => origin === page)).toHaveLength(1);
  await clock.advance(60_000);
  await preflight(serving);
  expect(serving.warnings).toHaveLength(11);
});

test('an OPTIONS request that is no preflight is answered as before', async () => {
  const serving = await serveTo();
  expect((await fetch(serving.httpUrl + path, { method: 'OPTIONS' })).status).toBe(405);
  expect(serving.warnings).toEqual([]);
});
