import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import type { UniversalServerResponse } from '@connectrpc/connect/protocol';
import type { Deadlines } from '../../time/deadlines.ts';

export type NodeResponse = ServerResponse<IncomingMessage> | Http2ServerResponse;

/** Whether nothing can be written any more; the response of HTTP/2 does not know it by itself. */
export function isClosed(response: NodeResponse): boolean {
  if (!('stream' in response)) return response.destroyed;
  return response.stream.destroyed || response.stream.closed;
}

const pieceBytesMax = 65_536;

/**
 * Writes what connect-node answers, in pieces. A client that takes none of them within the limit of
 * the deadlines is cut off; one that reads slowly is not.
 * @param sending called with the bytes of each chunk; those before have gone out.
 * @throws Error if the connection or the stream was closed before
 */
export async function writeResponse(
  { status, header, body, trailer }: UniversalServerResponse,
  response: NodeResponse,
  unread: Deadlines<NodeResponse>,
  sending?: (bytes: number) => void,
): Promise<void> {
  const chunks = body?.[Symbol.asyncIterator]();
  try {
    // The headers follow the first chunk, until which a handler may still set them.
    let chunk = await chunks?.next();
    (response as ServerResponse).writeHead(status, Object.fromEntries(header ?? []));
    for (; chunk !== undefined && chunk.done !== true; chunk = await chunks?.next()) {
      sending?.(chunk.value.length);
      for (let at = 0; at < chunk.value.length; at += pieceBytesMax) {
        await written(response, chunk.value.subarray(at, at + pieceBytesMax), unread);
      }
    }
    if (trailer !== undefined) response.addTrailers(Object.fromEntries(trailer));
    await ended(response, unread);
  } finally {
    unread.over(response);
    chunks?.return?.().catch(() => undefined);
  }
}

/** Resolves when the transport takes more. */
function written(response: NodeResponse, piece: Uint8Array, unread: Deadlines<NodeResponse>): Promise<void> {
  if (isClosed(response)) return Promise.reject(closedEarly());
  if ((response as ServerResponse).write(piece)) return Promise.resolve();
  return unlessClosed(response, 'drain', unread);
}

function ended(response: NodeResponse, unread: Deadlines<NodeResponse>): Promise<void> {
  if (isClosed(response)) return Promise.reject(closedEarly());
  const finished = unlessClosed(response, 'finish', unread);
  response.end();
  return finished;
}

function unlessClosed(response: NodeResponse, event: string, unread: Deadlines<NodeResponse>): Promise<void> {
  return new Promise((resolve, reject) => {
    const onEvent = (): void => {
      settle();
      resolve();
    };
    const onClose = (): void => {
      settle();
      reject(closedEarly());
    };
    const settle = (): void => {
      unread.over(response);
      response.off(event, onEvent).off('close', onClose).off('error', onClose);
    };
    unread.begin(response);
    response.once(event, onEvent).once('close', onClose).once('error', onClose);
  });
}

function closedEarly(): Error {
  return Object.assign(new Error('the client has gone'), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
}
