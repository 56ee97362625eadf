import type { ServerHttp2Session } from 'node:http2';
import type { Clock } from '../../time/clock.ts';
import { Every } from '../../time/every.ts';
import { timeUp, within } from '../../time/within.ts';

/**
 * Pings an HTTP/2 session each `intervalMs`, and closes it when the answer takes as long. Node has
 * no keepalive of its own, and a client whose machine has gone would hold its partitions for a
 * quarter of an hour. HTTP/1.1 has only the kernel's keepalive.
 */
export function keepSessionAlive(session: ServerHttp2Session, clock: Clock, intervalMs: number): void {
  const pings = new Every({
    clock,
    delayMs: intervalMs,
    run: async () => {
      if (session.destroyed) return;
      if ((await within(clock, intervalMs, answered(session))) === timeUp) session.destroy();
    },
    onError: () => {
      session.destroy();
    },
  });
  pings.start();
  session.once('close', () => {
    void pings.stop();
  });
}

/** Resolves with the answer of the client, and when the session ends. */
function answered(session: ServerHttp2Session): Promise<void> {
  return new Promise((resolve) => {
    const answer = (): void => {
      resolve();
    };
    // A session that is closing may never end by itself: after a client's GOAWAY and a wrong frame
    // Node reads no more. It sends no pings then, but settings, which are answered too.
    if (session.closed) session.settings({}, answer);
    else session.ping(answer);
  });
}
