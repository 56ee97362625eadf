import { once } from 'node:events';
import { connect, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import type { Duplex } from 'node:stream';
import { onTestFinished } from 'vitest';

/** A connection of bare HTTP/2, for requests that no gRPC library sends. */
export function rawSession(port: number): ClientHttp2Session {
  // Node's own limit for what a client has not sent yet would refuse its calls.
  const session = connect(`http://127.0.0.1:${port}`, { maxSessionMemory: 1_000 });
  session.on('error', () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  return session;
}

/** A call that stays open until the test ends its request. */
export function openCall(
  session: ClientHttp2Session,
  path: string,
  headers: OutgoingHttpHeaders = {},
): ClientHttp2Stream {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  return stream.on('error', () => undefined);
}

/**
 * Resolves when a connection or a call is over, in whatever way. Bytes that are on their way while
 * the other side closes are answered with a reset, so an error says no more than an end.
 */
export function closed(stream: Duplex): Promise<void> {
  stream.on('error', () => undefined);
  if (stream.closed) return Promise.resolve();
  return new Promise((resolve) => stream.once('close', () => resolve()));
}

export interface RawAnswer {
  readonly httpStatus: number | undefined;
  readonly code: number;
  readonly reason: string | undefined;
  readonly message: string;
}

/** The status of a call, from its trailers or from an answer that has nothing else. */
export async function answerOf(stream: ClientHttp2Stream): Promise<RawAnswer> {
  const seen: Record<string, unknown> = {};
  const note = (headers: object) => Object.assign(seen, headers);
  stream.on('response', note).on('trailers', note).resume();
  await once(stream, 'close');
  return {
    httpStatus: seen[':status'] as number | undefined,
    code: Number(seen['grpc-status']),
    reason: seen['millrace-reason'] as string | undefined,
    message: decodeURI(String(seen['grpc-message'])),
  };
}

/** A message behind its five bytes of prefix. */
export function framed(message: Buffer, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}
