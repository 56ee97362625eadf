import { Code, ConnectError } from '@connectrpc/connect';
import { deadlineExceeded } from '../../errors/rejections/requests.ts';
import { reasonTrailer, rpcErrorOf, type ReportBug } from '../edge/errors.ts';

/**
 * An error as connect-node sends it in all three protocols, with the same details as on the gRPC
 * edge.
 */
export function connectErrorOf(error: unknown, reportBug: ReportBug): ConnectError {
  const isLate = error instanceof ConnectError && error.code === Code.DeadlineExceeded;
  // Nobody reads the error of a cancelled call, which is connect-node's own.
  if (error instanceof ConnectError && !isLate) return error;
  const { code, reason, message, details } = rpcErrorOf(isLate ? deadlineExceeded() : error, reportBug);
  return new ConnectError(message, code, { [reasonTrailer]: reason }, [...details], error);
}
