import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closed } from '../../rpc/raw-call.ts';
import { edges, portOf, type EdgeName } from '../calls.ts';
import { HostileSite } from '../hostile-site.ts';
import { flood, headersOf, wholeCall, type Flood } from './flood.ts';
import { frame } from './frames.ts';

const timeout = 240_000;
let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const call = (edge: EdgeName, stream: number, flags: number): Buffer => frame(1, flags, stream, headersOf(edge));
const none = (): Buffer => Buffer.alloc(0);
/** A header of 4,000 bytes that goes into the table of the connection, where one byte names it. */
const kept = Buffer.concat([Buffer.from([0x40, 1, 0x78, 0x7f, 0xa1, 0x1e]), Buffer.alloc(4_000, 0x61)]);
const named = Buffer.alloc(4_000, 0xbe);

const ended: readonly Flood[] = [
  { name: 'CONTINUATION', first: (edge) => call(edge, 1, 0), more: () => frame(9, 0, 1, Buffer.from([0, 1, 0x61, 0])) },
  { name: 'empty CONTINUATION', first: (edge) => call(edge, 1, 0), more: () => frame(9, 0, 1, none()) },
  { name: 'PRIORITY', first: none, more: (_, index) => frame(2, 0, 2 * index + 1, Buffer.alloc(5)) },
  { name: 'unasked PING answers', first: none, more: () => frame(6, 1, 0, Buffer.alloc(8)) },
  { name: 'WINDOW_UPDATE of 0', first: (edge) => call(edge, 1, 4), more: () => frame(8, 0, 1, number(0)) },
  { name: 'WINDOW_UPDATE overflow', first: none, more: () => frame(8, 0, 0, number(0x7fffffff)) },
  { name: 'empty DATA', first: (edge) => call(edge, 1, 4), more: () => frame(0, 0, 1, none()) },
  { name: 'frames of no known type', first: none, more: () => frame(200, 0, 0, Buffer.alloc(8)) },
];

const cheap: readonly Flood[] = [
  {
    name: 'headers that unpack to millions of bytes',
    first: (edge) => wholeCall(0, Buffer.concat([headersOf(edge), kept])),
    more: (edge, index) => wholeCall(index + 1, Buffer.concat([headersOf(edge), named])),
  },
  {
    name: 'calls that are reset at once',
    first: none,
    more: (edge, index) => Buffer.concat([wholeCall(index, headersOf(edge)), frame(3, 0, 2 * index + 1, number(8))]),
  },
  { name: 'SETTINGS', first: none, more: () => frame(4, 0, 0, none()) },
  { name: 'WINDOW_UPDATE', first: (edge) => call(edge, 1, 4), more: () => frame(8, 0, 0, number(1)) },
  { name: 'GOAWAY', first: none, more: () => frame(7, 0, 0, Buffer.alloc(8)) },
];

describe.each(edges)('a connection to %s', (edge) => {
  test.each(ended)('a flood of $name ends its connection, and nothing else', { timeout }, async (one) => {
    const wasEnded = await hostile.attack(({ broker }) => flood(portOf(broker, edge), edge, one));
    expect(wasEnded).toBe(true);
  });

  test.each(cheap)('a flood of $name costs the broker no memory', { timeout }, async (one) => {
    await hostile.attack(async ({ broker }) => {
      await flood(portOf(broker, edge), edge, one);
    });
  });
});

test('an upgrade of HTTP/1.1 to HTTP/2 is not made, and its request is answered', { timeout }, async () => {
  const answer = await hostile.attack(async ({ broker }) => {
    const socket = connect(broker.httpPort, '127.0.0.1');
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    const upgrade = 'connection: upgrade, http2-settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n';
    socket.write(`GET /healthz HTTP/1.1\r\nhost: a\r\n${upgrade}\r\n`);
    await closed(socket);
    return Buffer.concat(chunks).toString();
  });
  expect(answer).toMatch(/^HTTP\/1\.1 200 /);
});
