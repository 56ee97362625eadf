import { ServerReflection } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import type { Account } from '../../account/account.ts';
import { limits } from '../../limits/limits.ts';
import type { ReportBug } from '../edge/errors.ts';
import { services } from '../handlers/handlers.ts';
import { refusePlainly } from '../requests/plain-refusal.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import { pathOf } from '../requests/rpc-listener.ts';
import type { NodeResponse } from '../requests/universal-response.ts';

/** What an open call counts, by its path. */
const bytesOf = new Map<string, number>(
  [...services, ServerReflection].flatMap((service) =>
    service.methods.map(({ name, methodKind }) => {
      const bytes = methodKind === 'unary' ? limits.openHttpCallBytes : limits.openHttpStreamBytes;
      return [`/${service.typeName}/${name}`, bytes] as const;
    }),
  ),
);

/** Whether a request is a call, and not one of the paths of operators, which are always served. */
export function isCall(request: NodeRequest): boolean {
  return bytesOf.has(pathOf(request));
}

const publishPaths = new Set(
  [BrokerService.method.publish, BrokerService.method.publishStream].map(
    ({ parent, name }) => `/${parent.typeName}/${name}`,
  ),
);

export function isPublish(request: NodeRequest): boolean {
  return publishPaths.has(pathOf(request));
}

/**
 * Counts a call until its response is closed.
 * @returns false if there is no room for it; it is then answered, in the form of a unary call.
 */
export function entered(
  { account, reportBug }: { readonly account: Account; readonly reportBug: ReportBug },
  request: NodeRequest,
  response: NodeResponse,
): boolean {
  const calls = account.kind('streams');
  const bytes = bytesOf.get(pathOf(request)) ?? 0;
  if (calls.take(bytes)) {
    response.once('close', () => {
      calls.give(bytes);
    });
    return true;
  }
  refusePlainly(response, calls.refusal(), reportBug);
  return false;
}
