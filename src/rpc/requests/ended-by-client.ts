import { Code, ConnectError } from '@connectrpc/connect';
import type { NodeRequest } from './request-body.ts';
import { isClosed, type NodeResponse } from './universal-response.ts';

/** What Node says when a client resets a stream, closes its connection, or sends no HTTP. */
const codes: ReadonlySet<unknown> = new Set([
  'ABORT_ERR',
  'ECONNABORTED',
  'ECONNRESET',
  'EPIPE',
  'ERR_HTTP2_GOAWAY_SESSION',
  'ERR_HTTP2_INVALID_STREAM',
  'ERR_HTTP2_SESSION_ERROR',
  'ERR_HTTP2_STREAM_CANCEL',
  'ERR_HTTP2_STREAM_ERROR',
  'ERR_STREAM_DESTROYED',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_STREAM_WRITE_AFTER_END',
  'ETIMEDOUT',
]);

/**
 * Whether a call failed by what its client did: it has gone, it broke its request off, or it sent
 * what is not HTTP. Such an error is no bug of the broker, and nobody reads an answer to it.
 */
export function endedByClient(error: unknown, request: NodeRequest, response: NodeResponse): boolean {
  if (request.aborted || isClosed(response)) return true;
  if (error instanceof ConnectError) return error.code === Code.Canceled || error.code === Code.Aborted;
  const { code } = error as { readonly code?: unknown };
  return codes.has(code) || (typeof code === 'string' && code.startsWith('HPE_'));
}
