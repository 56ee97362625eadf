import type { ServerHttp2Session } from 'node:http2';
import type { Clock } from '../../time/clock.ts';

/**
 * Pings an HTTP/2 session each `intervalMs`, and closes it when the answer takes as long. Node has
 * no keepalive of its own, and a client whose machine has gone would hold its partitions for a
 * quarter of an hour. HTTP/1.1 has only the kernel's keepalive.
 */
export function keepSessionAlive(session: ServerHttp2Session, clock: Clock, intervalMs: number): void {
  let cancel = clock.after(intervalMs, ping);
  session.once('close', () => {
    cancel();
  });

  function ping(): void {
    // A session that is closing sends no pings, and ends with its last stream.
    if (session.destroyed || session.closed) return;
    cancel = clock.after(intervalMs, () => {
      session.destroy();
    });
    session.ping(() => {
      cancel();
      if (!session.destroyed) cancel = clock.after(intervalMs, ping);
    });
  }
}
