import { ConnectError } from '@connectrpc/connect';
import { rpcErrorOf, type ReportBug } from '../edge/errors.ts';

/** An error as connect-node sends it in all three protocols, with the same details as on the gRPC edge. */
export function connectErrorOf(error: unknown, reportBug: ReportBug): ConnectError {
  // A call that was given up, or whose deadline is over, ends with what connect-node made of that.
  if (error instanceof ConnectError) return error;
  const { code, message, details } = rpcErrorOf(error, reportBug);
  return new ConnectError(message, code, undefined, [...details], error);
}
