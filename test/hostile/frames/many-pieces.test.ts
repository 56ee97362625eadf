import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { closed, framed } from '../../rpc/raw-call.ts';
import { contentTypeOf, edges, pathOf, portOf } from '../calls.ts';
import { bareConnection, callHeaders, frame, sent, taken } from './frames.ts';
import { HostileSite } from '../hostile-site.ts';
import { sized } from '../sizes.ts';

const timeout = 600_000;
const piecesAtOnce = 1_000;
const refusedPieces = 5_000;
let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

const method = BrokerService.method.ack;

/** Sends the piece until it was sent so often, or until the broker closes the connection. */
async function sendPieces(socket: Socket, piece: Buffer, count: number): Promise<void> {
  const many = Buffer.concat(Array.from({ length: piecesAtOnce }, () => piece));
  for (let left = count; left > 0 && !socket.destroyed; left -= piecesAtOnce) await sent(socket, many);
}

/** Everything that the broker writes until the text, or until it closes the connection. */
async function readUntil(socket: Socket, text: string): Promise<string> {
  let seen = '';
  const found = new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      seen += chunk.toString('latin1');
      if (seen.includes(text)) resolve();
    });
  });
  await Promise.race([found, closed(socket)]);
  return seen;
}

describe('a request in more than a million pieces of one byte is refused, and ends no broker', () => {
  test('chunks of HTTP/1.1', { timeout }, async () => {
    await hostile.attack(async ({ broker }) => {
      const socket = connect(broker.httpPort, '127.0.0.1').on('error', () => undefined);
      const answered = readUntil(socket, 'MALFORMED_REQUEST');
      const head = ['Host: x', 'Content-Type: application/proto', 'Transfer-Encoding: chunked'];
      socket.write(`POST ${pathOf(method)} HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`);
      await sendPieces(socket, Buffer.from('1\r\n0\r\n'), sized(200_000, 1_600_000));
      expect(await answered).toContain('MALFORMED_REQUEST');
      socket.destroy();
    });
  });

  test.each(edges)('DATA frames over %s', { timeout }, async (edge) => {
    await hostile.attack(async ({ broker }) => {
      for (const count of [refusedPieces, sized(200_000, 2_400_000)]) {
        const socket = await bareConnection(portOf(broker, edge));
        const answered = readUntil(socket, 'MALFORMED_REQUEST');
        socket.write(frame(1, 4, 1, callHeaders(pathOf(method), contentTypeOf(edge, method))));
        if (edge === 'grpc') socket.write(frame(0, 0, 1, framed(Buffer.alloc(4_000_000)).subarray(0, 5)));
        await sendPieces(socket, frame(0, 0, 1, Buffer.alloc(1)), count);
        // The reason of gRPC stands in compressed trailers, and more frames end the call at once.
        if (edge === 'http' && count === refusedPieces) expect(await answered).toContain('MALFORMED_REQUEST');
        await taken(socket);
        socket.destroy();
      }
    });
  });
});
