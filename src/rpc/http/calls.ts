import { Code } from '@connectrpc/connect';
import { codeToHttpStatus, errorToJsonBytes } from '@connectrpc/connect/protocol-connect';
import { ServerReflection } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import type { Account } from '../../account/account.ts';
import { limits } from '../../limits/limits.ts';
import { reasonTrailer, type ReportBug } from '../edge/errors.ts';
import { services } from '../handlers/handlers.ts';
import { connectErrorOf } from '../requests/connect-error.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import { pathOf, type NodeResponse } from '../requests/rpc-listener.ts';

const paths = new Set(
  [...services, ServerReflection].flatMap((service) =>
    service.methods.map((method) => `/${service.typeName}/${method.name}`),
  ),
);

/** Whether a request is a call, and not one of the paths of operators, which are always served. */
export function isCall(request: NodeRequest): boolean {
  return paths.has(pathOf(request));
}

/**
 * Counts a call until its response is closed.
 * @returns false if there is no room for it; it is then answered, in the form of a unary call.
 */
export function entered(
  { account, reportBug }: { readonly account: Account; readonly reportBug: ReportBug },
  response: NodeResponse,
): boolean {
  const calls = account.kind('streams');
  if (calls.take(limits.openCallBytes)) {
    response.once('close', () => {
      calls.give(limits.openCallBytes);
    });
    return true;
  }
  const error = connectErrorOf(calls.refusal(), reportBug);
  response.statusCode = codeToHttpStatus(Code.ResourceExhausted);
  response.setHeader('content-type', 'application/json');
  response.setHeader(reasonTrailer, error.metadata.get(reasonTrailer) ?? '');
  response.end(Buffer.from(errorToJsonBytes(error, undefined)));
  return false;
}
