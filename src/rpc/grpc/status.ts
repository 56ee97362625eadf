import type { ServerHttp2Stream } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import { Metadata, status, type ServerInterceptingCall, type StatusObject } from '@grpc/grpc-js';
import { StatusSchema } from '../../../gen/google/rpc/status_pb.js';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { deadlineExceeded, malformedRequest } from '../../errors/rejections/requests.ts';
import { reasonTrailer, rpcErrorOf, type ReportBug, type RpcError } from '../edge/errors.ts';

/**
 * An error as grpc-js sends it: code and message, the details in the usual trailer of gRPC, and the
 * reason in a trailer of its own.
 */
export function statusOf(error: unknown, reportBug: ReportBug): StatusObject {
  return statusObject(rpcErrorOf(error, reportBug));
}

function statusObject({ code, reason, message, details }: RpcError): StatusObject {
  const packed = details.map(({ desc, value }) => anyPack(desc, value));
  const metadata = new Metadata();
  const bytes = toBinary(StatusSchema, create(StatusSchema, { code, message, details: packed }));
  metadata.set(reasonTrailer, reason);
  metadata.set('grpc-status-details-bin', Buffer.from(bytes));
  return { code, details: message, metadata };
}

/** As grpc-js and its interceptors pass it on. */
export type SentStatus = Parameters<ServerInterceptingCall['sendStatus']>[0];

/** What grpc-js itself refuses, by the beginning of its text. The gate refuses the rest. */
const ownRefusals: readonly (readonly [status, string, () => Rejection])[] = [
  [status.UNIMPLEMENTED, 'Received no request message', () => malformedRequest('the request is cut short')],
  [status.DEADLINE_EXCEEDED, 'Deadline exceeded', deadlineExceeded],
];

/** The status with a reason, which one by which grpc-js itself ends a call does not have. */
export function explained(sent: SentStatus, stream: ServerHttp2Stream, reportBug: ReportBug): SentStatus {
  if (sent.code === status.OK || sent.metadata?.get(reasonTrailer).length === 1) return sent;
  // Nobody reads the status of a stream that has gone, and its client has ended it.
  if (stream.destroyed || stream.closed) return sent;
  return statusOf(causeOf(sent), reportBug);
}

/** Anything that no client can cause is a bug. */
function causeOf({ code, details = '' }: SentStatus): Error {
  const own = ownRefusals.find(([ownCode, text]) => ownCode === code && details.startsWith(text));
  return own?.[2]() ?? new Error(`grpc-js ended a call with ${code}: ${details}`);
}
