import { mayWait, methodsOfEdge, type EdgeName } from '../calls.ts';
import { callHeaders, frame } from '../frames/frames.ts';
import { oddHeaders, oddHosts, oddPaths } from './header-cases.ts';
import { binaryOf, contentTypeOf, enveloped, type Sources } from './message-cases.ts';
import type { CaseRandom } from './random.ts';

/** Bytes for one connection, which hold several requests. */
export interface RawCase {
  readonly edge: EdgeName;
  readonly bytes: Buffer;
  readonly requests: number;
  readonly protocol: 'http1' | 'frames';
  /**
   * The requests, or streams, that must be answered, because they are whole and do not wait; null
   * where bytes are broken, or where calls may wait.
   */
  readonly answered: number | null;
  /** The client breaks its connection, and does not end it. */
  readonly breaks: boolean;
}

const requestsMax = 6;
const ping = Buffer.from('fuzz\0\0\0\0', 'latin1');
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** Requests of HTTP/1.1 behind each other, which may be broken anywhere. */
export function http1Case(sources: Sources, index: number, random: CaseRandom): RawCase {
  const requests = 1 + random.int(requestsMax);
  const texts = Array.from({ length: requests }, (_, at) => http1Request(sources, random, at === requests - 1));
  const plain = Buffer.concat(texts.map(({ bytes }) => bytes));
  const bytes = random.chance(0.4) ? sources.book.mutate(plain, index, random) : plain;
  const edge = random.chance(0.9) ? 'http' : 'grpc';
  const isWhole = edge === 'http' && bytes.equals(plain) && texts.every((text) => text.isWhole);
  return { edge, bytes, requests, protocol: 'http1', answered: isWhole ? requests : null, breaks: random.chance(0.5) };
}

/** @returns its bytes, and whether it must be answered as it stands. */
function http1Request({ messages }: Sources, random: CaseRandom, isLast: boolean) {
  const method = random.pick(methodsOfEdge.http);
  const format = random.pick(['json', 'proto']);
  const message = messages.message(method.input, random);
  const content = format === 'json' ? Buffer.from(JSON.stringify(message)) : binaryOf(method, message);
  const contentType = contentTypeOf('http', method, format, random);
  const body = /grpc|connect/.test(contentType) ? enveloped(content) : content;
  const verb = random.chance(0.9)
    ? 'POST'
    : random.pick(['GET', 'HEAD', 'OPTIONS', 'PUT', 'CONNECT', 'PRI', 'post', '']);
  const called = `/${method.parent.typeName}/${method.name}`;
  const path = random.chance(0.9) ? called : random.pick(oddPaths);
  const target = random.chance(0.95) ? path : random.pick(['*', 'http://[::1', `http://x${path}`, '', '\\', 'a b']);
  const version = random.chance(0.97) ? 'HTTP/1.1' : random.pick(['HTTP/1.0', 'HTTP/2.0', 'HTTP/9.9', '', 'HTTP/1.1 ']);
  const line = `${verb} ${target} ${version}`;
  const lines = [line, `Host: ${random.chance(0.9) ? 'broker' : random.pick(oddHosts)}`];
  lines.push(`Content-Type: ${contentType}`);
  for (let odd = random.int(3); odd > 0; odd -= 1) {
    const [name, values] = random.pick(oddHeaders);
    lines.push(`${name}: ${random.pick(values)}`);
  }
  if (random.chance(0.05)) lines.push(...random.pick(brokenHeaders));
  const isPlain = line === `POST ${called} HTTP/1.1` && lines.length === 3 && !mayWait(method);
  if (isLast) lines.push('Connection: close');
  const { bytes, fits } = http1Bytes(lines, body, random);
  return { bytes, isWhole: isPlain && fits };
}

const brokenHeaders: readonly (readonly string[])[] = [
  ['Host: twice'],
  ['no colon'],
  [': no name'],
  [' folded'],
  ['X: \u0000'],
  ['X: \r'],
  ['Upgrade: h2c', 'Connection: Upgrade', 'HTTP2-Settings: AAA'],
  ['Upgrade: websocket', 'Connection: Upgrade'],
  ['Transfer-Encoding: gzip'],
  ['TE: gzip', 'Connection: TE'],
  ['Content-Length: -1'],
  ['Content-Length: 5', 'Content-Length: 6'],
  Array.from({ length: 100 }, (_, n) => `X-${n}: y`),
  [`X: ${'y'.repeat(17_000)}`],
];

/** `fits`: the body is as long as the head says. */
function http1Bytes(lines: readonly string[], body: Buffer, random: CaseRandom) {
  const head = (last: string): Buffer => Buffer.from(`${[...lines, last].join('\r\n')}\r\n\r\n`, 'latin1');
  if (random.chance(0.6)) return { bytes: Buffer.concat([head(`Content-Length: ${body.length}`), body]), fits: true };
  if (random.chance(0.3)) {
    const length = body.length + random.pick([-1, 1, 9]);
    return { bytes: Buffer.concat([head(`Content-Length: ${length}`), body]), fits: false };
  }
  const size = random.pick([body.length.toString(16), `${body.length.toString(16)};x=y`, 'zz', '-1', 'ffffffffff', '']);
  const chunk = Buffer.from(`${size}\r\n`);
  const end = Buffer.from(random.pick(['\r\n0\r\n\r\n', '\r\n0\r\nTrailer: x\r\n\r\n', '\r\n', '']));
  return { bytes: Buffer.concat([head('Transfer-Encoding: chunked'), chunk, body, end]), fits: false };
}

/** Frames of HTTP/2, whole and broken, and at the end a ping. */
export function framesCase(sources: Sources, index: number, random: CaseRandom): RawCase {
  const edge = random.pick(['grpc', 'http'] as const);
  const frames: Buffer[] = [];
  const requests = 1 + random.int(requestsMax);
  let areWhole = true;
  for (let request = 0; request < requests; request += 1) {
    const stream = 2 * request + 1;
    const call = callFrames(sources, edge, stream, random);
    frames.push(...call.frames);
    const isOdd = random.chance(0.5);
    if (isOdd) frames.push(oddFrame(stream, random));
    areWhole &&= call.isWhole && !isOdd;
  }
  frames.push(frame(6, 0, 0, ping));
  const bytes = Buffer.concat(frames);
  const sent = random.chance(0.3) ? sources.book.mutate(bytes, index, random) : bytes;
  return {
    edge,
    bytes: Buffer.concat([preface, frame(4, 0, 0, Buffer.alloc(0)), sent]),
    requests,
    protocol: 'frames',
    answered: areWhole && sent.equals(bytes) ? requests : null,
    breaks: random.chance(0.5),
  };
}

/** `isWhole`: the broker must end the stream by itself. */
function callFrames({ messages }: Sources, edge: EdgeName, stream: number, random: CaseRandom) {
  const method = random.pick(methodsOfEdge[edge]);
  const body = enveloped(binaryOf(method, messages.message(method.input, random)));
  const contentType = contentTypeOf(edge, method, 'proto', random);
  const headers = callHeaders(`/${method.parent.typeName}/${method.name}`, contentType);
  const end = random.chance(0.8) ? 1 : 0;
  const flags = random.chance(0.9) ? 4 : random.int(256);
  const cut = random.int(body.length + 1);
  const frames = [
    frame(1, flags, stream, headers),
    frame(0, 0, stream, body.subarray(0, cut)),
    frame(0, end, stream, body.subarray(cut)),
  ];
  const mayStay = method.methodKind !== 'bidi_streaming' && mayWait(method);
  return { frames, isWhole: end === 1 && flags === 4 && !mayStay };
}

function oddFrame(stream: number, random: CaseRandom): Buffer {
  const target = random.pick([0, stream, stream + 2, 2, 0x7fffffff]);
  const number = Buffer.alloc(4);
  number.writeUInt32BE(random.pick([0, 1, 0x7fffffff, 0xffffffff]));
  const setting = Buffer.alloc(6);
  setting.writeUInt16BE(random.int(8));
  setting.writeUInt32BE(random.pick([0, 1, 0xffffff, 0x7fffffff, 0xffffffff]), 2);
  return random.pick([
    frame(3, 0, target, number),
    frame(8, 0, target, number),
    frame(4, 0, 0, setting),
    frame(4, 1, 0, Buffer.alloc(0)),
    frame(2, 0, target, Buffer.alloc(5)),
    frame(9, random.pick([0, 4]), target, Buffer.alloc(random.int(50))),
    frame(7, 0, 0, Buffer.concat([number, number])),
    frame(5, 4, target, Buffer.alloc(10)),
    frame(6, 0, target, Buffer.alloc(8)),
    frame(random.int(256), random.int(256), target, Buffer.alloc(random.int(30), random.int(256))),
  ]);
}
