import type { JsonObject } from '@bufbuild/protobuf';
import { codeToHttpStatus, codeToString } from '@connectrpc/connect/protocol-connect';
import { ErrorInfoSchema, type ErrorInfo } from '../../../gen/google/rpc/error_details_pb.js';
import { rpcErrorOf, type ReportBug } from '../edge/errors.ts';

/** The answer to a plain HTTP request. */
export interface Answer {
  readonly status: number;
  readonly body: string | Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

export function refused(error: unknown, reportBug: ReportBug): Answer {
  const { code, message, details } = rpcErrorOf(error, reportBug);
  const info = details.find(({ desc }) => desc === ErrorInfoSchema)?.value as ErrorInfo | undefined;
  return json(codeToHttpStatus(code), { code: codeToString(code), reason: info?.reason ?? '', message });
}

export function notAllowed(path: string): Answer {
  const body = { code: 'unimplemented', reason: 'METHOD_NOT_ALLOWED', message: `${path} can only be read: use GET` };
  const { headers, ...answer } = json(405, body);
  return { ...answer, headers: { ...headers, allow: 'GET, HEAD' } };
}

export function json(status: number, body: JsonObject): Answer {
  const headers = { 'content-type': 'application/json', 'cache-control': 'no-store' };
  return { status, body: `${JSON.stringify(body)}\n`, headers };
}

export function text(status: number, body: string | Buffer, type = 'text/plain; charset=utf-8'): Answer {
  return { status, body, headers: { 'content-type': type } };
}
