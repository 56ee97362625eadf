import type { Socket } from 'node:net';
import type { Clock } from '../../time/clock.ts';

/**
 * A client of HTTP/2 without TLS begins with "PRI * HTTP/2.0"; no request of HTTP/1.1 begins like
 * that.
 */
const http2Preface = Buffer.from('PRI ');

/**
 * Reads from a new connection until its bytes distinguish HTTP/2 from HTTP/1.1, however they are
 * split into packets, and puts them back. A connection without enough bytes within `timeoutMs` is
 * dropped.
 */
export function tellVersion(
  socket: Socket,
  clock: Clock,
  timeoutMs: number,
  decided: (isHttp2: boolean) => void,
): void {
  let seen = Buffer.alloc(0);
  const drop = (): void => {
    socket.destroy();
  };
  const cancel = clock.after(timeoutMs, drop);
  const gather = (chunk: Buffer): void => {
    seen = Buffer.concat([seen, chunk]);
    const begin = seen.subarray(0, http2Preface.length);
    const isPreface = begin.equals(http2Preface.subarray(0, begin.length));
    if (isPreface && begin.length < http2Preface.length) return;
    cancel();
    socket.off('data', gather).off('error', drop).off('end', drop).off('close', cancel);
    socket.pause();
    socket.unshift(seen);
    decided(isPreface);
  };
  socket.on('data', gather).on('error', drop).on('end', drop).on('close', cancel);
}
