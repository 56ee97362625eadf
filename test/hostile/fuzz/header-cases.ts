import type { OutgoingHttpHeaders } from 'node:http2';
import { mayWait, methodsOfEdge, type EdgeName } from '../calls.ts';
import type { Exchange } from './exchange.ts';
import { binaryOf, contentTypeOf, enveloped, exchangeOf, type Sources } from './message-cases.ts';
import type { CaseRandom } from './random.ts';

/** Headers that clients send by mistake or on purpose, in HTTP/2 and in HTTP/1.1. */
export const oddHeaders: readonly (readonly [name: string, values: readonly string[]])[] = [
  ['grpc-timeout', ['0m', '1n', '5S', '99999999H', '100000000S', '-1S', '1', 'S', 'x5Sy', '1m', '', '1 S']],
  ['grpc-encoding', ['identity', 'gzip', 'deflate', 'snappy', '', 'identity,gzip', 'GZIP']],
  ['grpc-accept-encoding', ['gzip', '', 'identity,deflate,gzip', ',,,']],
  ['content-encoding', ['identity', 'gzip', 'br', 'zstd', '', 'gzip, identity']],
  ['accept-encoding', ['gzip', '*;q=0', 'identity;q=0']],
  ['connect-protocol-version', ['1', '2', '', 'x']],
  ['connect-timeout-ms', ['0', '1', '100', '-1', '99999999999', '1e3', 'x', '']],
  ['connect-content-encoding', ['gzip', 'identity', 'x']],
  ['connect-accept-encoding', ['gzip', 'x']],
  ['content-type', ['', 'text/plain', 'application/grpc+', 'application/grpcx', 'application/json; charset=utf-16']],
  ['content-type', ['application/JSON', 'application/proto;', 'application/grpc;q=1', 'multipart/form-data', '*/*']],
  ['origin', ['null', 'http://evil.example', '\u00ff', 'x'.repeat(3_000)]],
  ['access-control-request-method', ['POST', '']],
  ['user-agent', ['', 'x'.repeat(3_000), 'grpc-node-js/1.0']],
  ['x-odd-bin', ['AAA', '%%%', '', '=', 'A']],
  ['x-grpc-web', ['1', '']],
  ['traceparent', ['00-0-0-0']],
  ['cookie', ['a=b', ';;;', '']],
  ['expect', ['100-continue', '200-ok']],
  ['forwarded', ['for="[::1]:x"']],
  ['x-forwarded-for', ['256.256.256.256', '', ',']],
  ['authorization', ['Bearer', 'Basic ===']],
];

export const oddPaths = [
  '/',
  '/metrics',
  '/healthz?x=%00',
  '/readyz',
  '/consumer-groups',
  '/consumer-groups/%00',
  '/consumer-groups/billing?pageToken=%zz',
  '/consumer-groups?pageSize=1e9&topic=..',
  '/millrace.v1.BrokerService',
  '/millrace.v1.BrokerService/',
  '/millrace.v1.BrokerService/Nothing',
  '//millrace.v1.BrokerService/Publish',
  '/millrace.v1.BrokerService/Publish/',
  '/MILLRACE.V1.BROKERSERVICE/PUBLISH',
  '/millrace.v1.BrokerService%2FPublish',
  '/__proto__/constructor',
  '/grpc.health.v1.Health/Check',
  `/${'x'.repeat(4_000)}`,
];

export const oddHosts = ['', ' ', 'a b', 'x:y', '[::1', ']', '[::1]:99999', 'ex%ample', '\u00fc', '@', 'a/b', '*'];

const methods = ['POST', 'POST', 'POST', 'GET', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'TRACE', 'X'];

/** A call in HTTP/2 with headers, or the frame of its message, that are wrong. */
export function headerCase({ messages, book }: Sources, index: number, random: CaseRandom): Exchange {
  const edge: EdgeName = random.pick(['grpc', 'http'] as const);
  const method = random.pick(methodsOfEdge[edge]);
  const format = edge === 'http' && random.chance(0.5) ? 'json' : 'proto';
  const message = messages.message(method.input, random);
  const body = format === 'json' ? Buffer.from(JSON.stringify(message)) : binaryOf(method, message);
  const plain = exchangeOf(edge, method, contentTypeOf(edge, method, format, random), [body]);
  const pieces = random.chance(0.4) ? oddPieces(body, random) : plain.pieces;
  const sent = random.chance(0.1) ? pieces.map((piece) => book.mutate(piece, index, random)) : pieces;
  const request: OutgoingHttpHeaders = {};
  if (random.chance(0.1)) request[':path'] = random.pick(oddPaths);
  if (random.chance(0.1)) request[':method'] = random.pick(methods);
  if (random.chance(0.1)) request[':authority'] = random.pick(oddHosts);
  if (random.chance(0.05)) request[':scheme'] = random.pick(['https', 'x', 'http']);
  if (random.chance(0.05)) request['content-length'] = random.pick(['0', '1', '99999']);
  const headers: OutgoingHttpHeaders = { ...plain.headers, ...someOddHeaders(random), ...request };
  const bytes = sent.reduce((sum, piece) => sum + piece.length, 0);
  return {
    edge,
    headers,
    pieces: sent,
    awaits: awaitedAt(edge, String(headers[':path'])),
    mayBeReset: Object.keys(request).length > 0,
    endsConnection: Number(headers['content-length'] ?? Infinity) < bytes,
  };
}

/** A request that is cut short may be one that waits, and its path may lead to any call. */
function awaitedAt(edge: EdgeName, path: string): Exchange['awaits'] {
  const called = methodsOfEdge[edge].find(({ parent, name }) => `/${parent.typeName}/${name}` === path);
  return called !== undefined && mayWait(called) ? 'none' : 'answer';
}

export function someOddHeaders(random: CaseRandom): Record<string, string> {
  const chosen = Array.from({ length: random.int(4) }, () => {
    const [name, values] = random.pick(oddHeaders);
    return [name, random.pick(values)] as const;
  });
  return Object.fromEntries(chosen);
}

/** Prefixes that lie, messages that are cut short or come twice, and frames of any size. */
function oddPieces(body: Buffer, random: CaseRandom): Buffer[] {
  const whole = random.pick([
    enveloped(body, random.pick([1, 2, 0x80, 0xff])),
    enveloped(body, 0, random.pick([0, 1, body.length + 1, 4_194_305, 0xffffffff])),
    Buffer.concat([enveloped(body), enveloped(body)]),
    enveloped(body).subarray(0, random.int(body.length + 5)),
    Buffer.alloc(0),
    body,
  ]);
  const cuts = Array.from({ length: random.int(4) }, () => random.int(whole.length + 1)).sort((a, b) => a - b);
  return [0, ...cuts].map((from, at) => whole.subarray(from, cuts[at] ?? whole.length));
}
