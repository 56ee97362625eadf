import { connect, type Socket } from 'node:net';
import { methodsOfEdge, type EdgeName } from '../calls.ts';
import { callHeaders, frame } from '../frames.ts';
import type { Answer } from './exchange.ts';
import { oddHeaders, oddHosts, oddPaths } from './header-cases.ts';
import { binaryOf, contentTypeOf, enveloped, type Sources } from './message-cases.ts';
import type { CaseRandom } from './random.ts';

/** Bytes for one connection, which hold several requests. */
export interface RawCase {
  readonly edge: EdgeName;
  readonly bytes: Buffer;
  readonly requests: number;
  /** What the broker sends when it has read everything; null: it closes the connection. */
  readonly lastAnswer: Buffer | null;
}

const requestsMax = 6;
const leaveMs = 250;
const ping = Buffer.from('fuzz\0\0\0\0', 'latin1');
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** Requests of HTTP/1.1 behind each other, which may be broken anywhere. */
export function http1Case(sources: Sources, index: number, random: CaseRandom): RawCase {
  const requests = 1 + random.int(requestsMax);
  const texts = Array.from({ length: requests }, (_, at) => http1Request(sources, random, at === requests - 1));
  const bytes = Buffer.concat(texts);
  return {
    edge: random.chance(0.9) ? 'http' : 'grpc',
    bytes: random.chance(0.4) ? sources.book.mutate(bytes, index, random) : bytes,
    requests,
    lastAnswer: null,
  };
}

function http1Request({ messages }: Sources, random: CaseRandom, isLast: boolean): Buffer {
  const method = random.pick(methodsOfEdge.http);
  const format = random.pick(['json', 'proto']);
  const message = messages.message(method.input, random);
  const content = format === 'json' ? Buffer.from(JSON.stringify(message)) : binaryOf(method, message);
  const contentType = contentTypeOf('http', method, format, random);
  const body = /grpc|connect/.test(contentType) ? enveloped(content) : content;
  const verb = random.chance(0.9)
    ? 'POST'
    : random.pick(['GET', 'HEAD', 'OPTIONS', 'PUT', 'CONNECT', 'PRI', 'post', '']);
  const path = random.chance(0.9) ? `/${method.parent.typeName}/${method.name}` : random.pick(oddPaths);
  const target = random.chance(0.95) ? path : random.pick(['*', 'http://[::1', `http://x${path}`, '', '\\', 'a b']);
  const version = random.chance(0.97) ? 'HTTP/1.1' : random.pick(['HTTP/1.0', 'HTTP/2.0', 'HTTP/9.9', '', 'HTTP/1.1 ']);
  const lines = [`${verb} ${target} ${version}`, `Host: ${random.chance(0.9) ? 'broker' : random.pick(oddHosts)}`];
  lines.push(`Content-Type: ${contentType}`);
  for (let odd = random.int(3); odd > 0; odd -= 1) {
    const [name, values] = random.pick(oddHeaders);
    lines.push(`${name}: ${random.pick(values)}`);
  }
  if (random.chance(0.05)) lines.push(...random.pick(brokenHeaders));
  if (isLast) lines.push('Connection: close');
  return http1Bytes(lines, body, random);
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

function http1Bytes(lines: readonly string[], body: Buffer, random: CaseRandom): Buffer {
  const head = (last: string): Buffer => Buffer.from(`${[...lines, last].join('\r\n')}\r\n\r\n`, 'latin1');
  if (random.chance(0.6)) return Buffer.concat([head(`Content-Length: ${body.length}`), body]);
  if (random.chance(0.3))
    return Buffer.concat([head(`Content-Length: ${body.length + random.pick([-1, 1, 9])}`), body]);
  const size = random.pick([body.length.toString(16), `${body.length.toString(16)};x=y`, 'zz', '-1', 'ffffffffff', '']);
  const chunk = Buffer.from(`${size}\r\n`);
  const end = Buffer.from(random.pick(['\r\n0\r\n\r\n', '\r\n0\r\nTrailer: x\r\n\r\n', '\r\n', '']));
  return Buffer.concat([head('Transfer-Encoding: chunked'), chunk, body, end]);
}

/** Frames of HTTP/2, whole and broken, and at the end a ping. */
export function framesCase(sources: Sources, index: number, random: CaseRandom): RawCase {
  const edge = random.pick(['grpc', 'http'] as const);
  const frames: Buffer[] = [];
  const requests = 1 + random.int(requestsMax);
  for (let request = 0; request < requests; request += 1) {
    const stream = 2 * request + 1;
    frames.push(...callFrames(sources, edge, stream, random));
    if (random.chance(0.5)) frames.push(oddFrame(stream, random));
  }
  frames.push(frame(6, 0, 0, ping));
  const bytes = Buffer.concat(frames);
  const sent = random.chance(0.3) ? sources.book.mutate(bytes, index, random) : bytes;
  return {
    edge,
    bytes: Buffer.concat([preface, frame(4, 0, 0, Buffer.alloc(0)), sent]),
    requests,
    lastAnswer: frame(6, 1, 0, ping),
  };
}

function callFrames({ messages }: Sources, edge: EdgeName, stream: number, random: CaseRandom): Buffer[] {
  const method = random.pick(methodsOfEdge[edge]);
  const body = enveloped(binaryOf(method, messages.message(method.input, random)));
  const contentType = contentTypeOf(edge, method, 'proto', random);
  const headers = callHeaders(`/${method.parent.typeName}/${method.name}`, contentType);
  const end = random.chance(0.8) ? 1 : 0;
  const cut = random.int(body.length + 1);
  return [
    frame(1, random.chance(0.9) ? 4 : random.int(256), stream, headers),
    frame(0, 0, stream, body.subarray(0, cut)),
    frame(0, end, stream, body.subarray(cut)),
  ];
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

/** Sends the bytes, and reads until the broker has answered or closed. */
export function sendRaw(
  { edge, bytes, lastAnswer }: RawCase,
  ports: Readonly<Record<EdgeName, number>>,
): Promise<Answer[]> {
  return new Promise((resolve) => {
    const socket = connect(ports[edge], '127.0.0.1');
    const chunks: Buffer[] = [];
    let ended: Answer['ended'] = 'closed';
    const leave = (): void => {
      ended = 'left';
      reset(socket);
    };
    const timer = setTimeout(leave, leaveMs);
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (lastAnswer !== null && Buffer.concat(chunks).includes(lastAnswer)) leave();
    });
    socket.once('end', () => {
      reset(socket);
    });
    socket.once('close', () => {
      clearTimeout(timer);
      resolve(lastAnswer === null ? http1Answers(Buffer.concat(chunks).toString('latin1'), ended) : [bare(ended)]);
    });
    socket.write(bytes);
  });
}

/** Leaves no address in TIME_WAIT, because a long run would use up all of them. */
function reset(socket: Socket): void {
  socket.resetAndDestroy();
}

function http1Answers(text: string, ended: Answer['ended']): Answer[] {
  const heads = [...text.matchAll(/^HTTP\/1\.1 (\d{3}) .*\r\n((?:[\w-]+: .*\r\n)*)/gm)];
  const answers = heads.map(([, status, headers = '']): Answer => {
    const reason = /^millrace-reason: (\w+)/im.exec(headers)?.[1] ?? null;
    return { ...bare('answered'), httpStatus: Number(status), reason };
  });
  return answers.length === 0 ? [bare(ended)] : answers;
}

function bare(ended: Answer['ended']): Answer {
  return { ended, httpStatus: null, code: null, reason: null, text: '' };
}
