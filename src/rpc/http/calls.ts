import { ServerReflection } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import type { Account } from '../../account/account.ts';
import { limits } from '../../limits/limits.ts';
import type { ReportBug } from '../edge/errors.ts';
import { services } from '../handlers/handlers.ts';
import { refusePlainly } from '../requests/plain-refusal.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import { pathOf } from '../requests/rpc-listener.ts';
import type { NodeResponse } from '../requests/universal-response.ts';

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
  refusePlainly(response, calls.refusal(), reportBug);
  return false;
}
