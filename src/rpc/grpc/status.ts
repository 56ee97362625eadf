import { create, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import {
  Metadata,
  status,
  type ServerInterceptingCall,
  type ServerInterceptor,
  type StatusObject,
} from '@grpc/grpc-js';
import { StatusSchema } from '../../../gen/google/rpc/status_pb.js';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest, requestTooLarge } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
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

type RefusedStatus = Parameters<ServerInterceptingCall['sendStatus']>[0];

/** What grpc-js refuses before any handler sees it, by the beginning of its text. */
const ownRefusals: readonly (readonly [status, string, () => Rejection])[] = [
  [
    status.RESOURCE_EXHAUSTED,
    'Received message',
    () => requestTooLarge({ bytes: null, bytesMax: limits.publishBytesMax }),
  ],
  [status.UNIMPLEMENTED, 'Received no request message', () => malformedRequest('the request is cut short')],
  [
    status.UNIMPLEMENTED,
    'Received a second request message',
    () => malformedRequest('the request has more than one message'),
  ],
  [
    status.UNIMPLEMENTED,
    'Received message compressed',
    () => malformedRequest('the request is compressed in a way that the broker does not know'),
  ],
  [status.INTERNAL, 'Failed to decompress', () => malformedRequest('the request does not decompress')],
  [status.INTERNAL, 'Invalid grpc-timeout', () => malformedRequest('the header grpc-timeout is malformed')],
];

/**
 * Adds the reason to each status by which grpc-js itself refuses a request. Wrapping the call
 * instead would cost an object and five calls for each message.
 */
export function explainRefusals(reportBug: ReportBug): ServerInterceptor {
  return (_method, call) => {
    const { sendStatus } = call;
    call.sendStatus = (sent) => {
      const refusal = refusalOf(sent);
      sendStatus.call(call, refusal === null ? sent : statusOf(refusal, reportBug));
    };
    return call as ServerInterceptingCall;
  };
}

function refusalOf({ code, details }: RefusedStatus): Rejection | null {
  if (code === status.OK) return null;
  const own = ownRefusals.find(([ownCode, text]) => ownCode === code && details?.startsWith(text) === true);
  return own === undefined ? null : own[2]();
}
