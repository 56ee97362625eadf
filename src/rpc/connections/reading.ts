import type { Http2Session } from 'node:http2';

/** The handle of a socket, as Node's own sockets use it. */
interface Handle {
  /** Bytes of a write under way. */
  readonly writeQueueSize: number;
  readStop(): void;
  readStart(): void;
}

/**
 * Stops to read the connection: the bytes that have been read are still parsed, and the others wait
 * in the kernel. Node gives no way to it but the handle, because the session has the socket.
 */
export function pauseReading(session: Http2Session): void {
  handleOf(session)?.readStop();
}

/** Node itself does not read while it writes, and begins again after the write. */
export function resumeReading(session: Http2Session): void {
  const handle = handleOf(session);
  if (handle?.writeQueueSize === 0) handle.readStart();
}

/** Null when the connection has ended. */
function handleOf(session: Http2Session): Handle | null {
  if (session.destroyed) return null;
  return (session.socket as unknown as { readonly _handle: Handle | null })._handle;
}
