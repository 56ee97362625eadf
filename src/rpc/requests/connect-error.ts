import { ConnectError } from '@connectrpc/connect';
import { reasonTrailer, rpcErrorOf, type ReportBug } from '../edge/errors.ts';

/**
 * An error as connect-node sends it in all three protocols, with the same details as on the gRPC
 * edge.
 */
export function connectErrorOf(error: unknown, reportBug: ReportBug): ConnectError {
  // A cancelled call, or one past its deadline, ends with connect-node's own error.
  if (error instanceof ConnectError) return error;
  const { code, reason, message, details } = rpcErrorOf(error, reportBug);
  return new ConnectError(message, code, { [reasonTrailer]: reason }, [...details], error);
}
