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
import { limits } from '../../limits/limits.ts';
import { rpcErrorOf, type ReportBug, type RpcError } from '../edge/errors.ts';
import { requestTooLarge } from '../../errors/rejections/requests.ts';

/** An error as grpc-js sends it: code and message, and the details in the usual trailer of gRPC. */
export function statusOf(error: unknown, reportBug: ReportBug): StatusObject {
  return statusObject(rpcErrorOf(error, reportBug));
}

function statusObject({ code, message, details }: RpcError): StatusObject {
  const packed = details.map(({ desc, value }) => anyPack(desc, value));
  const metadata = new Metadata();
  const bytes = toBinary(StatusSchema, create(StatusSchema, { code, message, details: packed }));
  metadata.set('grpc-status-details-bin', Buffer.from(bytes));
  return { code, details: message, metadata };
}

/**
 * Adds the reason to the status of a request that is too large, which grpc-js rejects before any
 * handler sees it. Wrapping the call instead would cost an object and five calls for each message.
 */
export function explainTooLarge(reportBug: ReportBug): ServerInterceptor {
  return (_method, call) => {
    const send = call.sendStatus.bind(call);
    call.sendStatus = (sent) => {
      const refused = sent.code === status.RESOURCE_EXHAUSTED && sent.details?.startsWith('Received message');
      send(
        refused === true
          ? statusOf(requestTooLarge({ bytes: null, bytesMax: limits.publishBytesMax }), reportBug)
          : sent,
      );
    };
    return call as ServerInterceptingCall;
  };
}
