import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { closed } from '../../rpc/raw-call.ts';

/** Bare frames of HTTP/2 on a socket, for clients that keep to no settings of the server. */
export async function bareConnection(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0))]));
  return socket;
}

export function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** The headers of a call in HPACK without a table: POST, http, an authority, path and type. */
export function callHeaders(path: string, contentType: string): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  const pseudo = [Buffer.from([0x83, 0x86, 0x01]), text('broker'), Buffer.from([0x04]), text(path)];
  return Buffer.concat([...pseudo, Buffer.from([0x0f, 0x10]), text(contentType)]);
}

/** The same with the table of the connection. The first call fills it, and the next name it. */
export function tabledCallHeaders(
  path: string,
  contentType: string,
): { readonly first: Buffer; readonly next: Buffer } {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  const kept = [
    Buffer.from([0x41]),
    text('broker'),
    Buffer.from([0x44]),
    text(path),
    Buffer.from([0x5f]),
    text(contentType),
  ];
  const first = Buffer.concat([Buffer.from([0x83, 0x86]), ...kept]);
  return { first, next: Buffer.from([0x83, 0x86, 0xc0, 0xbf, 0xbe]) };
}

/** Resolves when the bytes have left, or cannot leave because the connection is closed. */
export async function sent(socket: Socket, bytes: Buffer): Promise<void> {
  await new Promise((resolve) => socket.write(bytes, resolve));
}

/** Resolves when the server has read all frames before, or has closed the connection. */
export async function taken(socket: Socket): Promise<void> {
  if (socket.destroyed) return;
  const answer = frame(6, 1, 0, Buffer.from('all read'));
  let seen = Buffer.alloc(0);
  const answered = new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      seen = Buffer.concat([seen.subarray(-answer.length), chunk]);
      if (seen.includes(answer)) resolve();
    });
  });
  socket.write(frame(6, 0, 0, Buffer.from('all read')));
  await Promise.race([answered, closed(socket)]);
}
