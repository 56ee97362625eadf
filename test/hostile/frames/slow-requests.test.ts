import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, test } from 'vitest';
import { delay } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { closed, framed } from '../../rpc/raw-call.ts';
import { contentTypeOf, edges, pathOf, portOf, type EdgeName } from '../calls.ts';
import { HostileSite } from '../hostile-site.ts';
import { sized } from '../sizes.ts';
import { callHeaders, frame } from './frames.ts';

const timeout = 300_000;
const byteMs = 200;
const ofEachKind = sized(30, 300);
const method = BrokerService.method.ack;
let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

/** What comes at once, and then a byte at a time. */
interface Slow {
  readonly atOnce: Buffer;
  readonly byte: (index: number) => Buffer;
}

const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0))]);
const post = `POST ${pathOf(method)} HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\n`;

const byteOf =
  (bytes: Buffer) =>
  (index: number): Buffer =>
    bytes.subarray(index % bytes.length, (index % bytes.length) + 1);

const ofHttp2 = (edge: EdgeName): readonly Slow[] => {
  const headers = frame(1, 4, 1, callHeaders(pathOf(method), contentTypeOf(edge, method)));
  const prefix = edge === 'grpc' ? framed(Buffer.alloc(4_000_000)).subarray(0, 5) : Buffer.alloc(5);
  const body = Buffer.concat([preface, headers, frame(0, 0, 1, prefix)]);
  return [
    { atOnce: Buffer.alloc(0), byte: byteOf(preface) },
    { atOnce: Buffer.concat([preface, headers.subarray(0, 9)]), byte: byteOf(headers.subarray(9, 12)) },
    { atOnce: body, byte: () => frame(0, 0, 1, Buffer.alloc(1)) },
  ];
};

const slow: Readonly<Record<EdgeName, readonly Slow[]>> = {
  grpc: ofHttp2('grpc'),
  http: [
    ...ofHttp2('http'),
    { atOnce: Buffer.from('GET /'), byte: () => Buffer.from('x') },
    { atOnce: Buffer.from(post), byte: byteOf(Buffer.from('x-a: b\r\n')) },
    { atOnce: Buffer.from(`${post}content-length: 100000\r\n\r\n`), byte: () => Buffer.from('x') },
    { atOnce: Buffer.from(`${post}transfer-encoding: chunked\r\n\r\n`), byte: () => Buffer.from('1\r\nx\r\n') },
  ],
};

/** Sends bytes, one after the other, until the broker closes the connection. */
async function drip(port: number, { atOnce, byte }: Slow): Promise<void> {
  const socket: Socket = connect(port, '127.0.0.1').resume();
  const over = closed(socket);
  await once(socket, 'connect');
  if (atOnce.length > 0) socket.write(atOnce);
  for (let index = 0; !socket.destroyed; index += 1) {
    if (socket.writable) socket.write(byte(index));
    await Promise.race([over, delay(byteMs)]);
  }
}

test(
  'hundreds of requests to both edges that come a byte at a time cost others nothing, and are all ended',
  { timeout },
  async () => {
    await hostile.attack(async ({ broker }) => {
      const clients = edges.flatMap((edge) =>
        slow[edge].flatMap((kind) => Array.from({ length: ofEachKind }, () => drip(portOf(broker, edge), kind))),
      );
      await Promise.all(clients);
    });
  },
);
