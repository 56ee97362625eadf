import { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest } from '../../errors/rejections/requests.ts';

/** The error of connect-node when it could not read a message of a stream. */
export function malformedMessage(error: unknown): Rejection {
  if (error instanceof Error && error.cause instanceof Rejection) return error.cause;
  return malformedRequest(error instanceof Error ? error.message : String(error));
}
