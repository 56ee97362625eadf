import { codeToHttpStatus, errorToJsonBytes } from '@connectrpc/connect/protocol-connect';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { reasonTrailer, type ReportBug } from '../edge/errors.ts';
import { connectErrorOf } from './connect-error.ts';
import type { NodeResponse } from './universal-response.ts';

/**
 * Answers a request that no handler gets to see, in the form of a unary call of the Connect
 * protocol. Its body is not read, so the connection of HTTP/1.1 ends with the answer.
 */
export function refusePlainly(
  response: NodeResponse,
  rejection: Rejection,
  reportBug: ReportBug,
  { status, headers = {} }: { readonly status?: number; readonly headers?: Readonly<Record<string, string>> } = {},
): void {
  const error = connectErrorOf(rejection, reportBug);
  response.statusCode = status ?? codeToHttpStatus(error.code);
  response.setHeader('content-type', 'application/json');
  response.setHeader(reasonTrailer, error.metadata.get(reasonTrailer) ?? '');
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  readNoMore(response);
  response.end(Buffer.from(errorToJsonBytes(error, undefined)));
}

/** Once the answer has gone out, the remainder of the request is not read. */
export function readNoMore(response: NodeResponse): void {
  if (!('stream' in response)) {
    if (!response.headersSent) response.setHeader('connection', 'close');
    return;
  }
  const { stream } = response;
  // Without an error: the client may read the answer, and should send nothing more.
  response.once('finish', () => {
    stream.close();
  });
}
