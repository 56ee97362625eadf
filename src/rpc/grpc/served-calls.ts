import { Metadata, type ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import type { CallCounts } from '../edge/call-counts.ts';
import type { ReportBug } from '../edge/errors.ts';
import { own, type ServedCall } from './definition.ts';
import type { RequestBodies } from './request-bodies.ts';
import { sendInPieces } from './send-in-pieces.ts';
import { explained, type SentStatus } from './status.ts';

/**
 * Puts what this edge does otherwise than grpc-js into each call. It replaces methods of the call
 * by functions that all calls share. Wrapping the call, as interceptors do, would cost an object
 * and five calls for each message.
 */
export function servedCalls(bodies: RequestBodies, counts: CallCounts, reportBug: ReportBug): ServerInterceptor {
  function sendStatus(this: ServedCall, sent: SentStatus): void {
    const status = explained(sent, this.stream, reportBug);
    this.calls?.ended(status.code ?? unknownCode);
    this.calls = undefined;
    own(this).sendStatus.call(this, status);
  }
  return ({ path, requestStream, responseStream }, call) => {
    const served = call as unknown as ServedCall;
    served.calls = counts.ofPath(path);
    served.sendMetadata = sendMetadata;
    served.sendStatus = sendStatus;
    bodies.decode(served, !requestStream);
    if (responseStream) {
      sendInPieces(served);
      // Nobody sends a status to a client that ends its stream.
      served.stream.once('close', () => served.calls?.cancelled());
    }
    return call as ServerInterceptingCall;
  };
}

const unknownCode = 2;

/**
 * grpc-js offers compression by itself, and the gate refuses compressed requests. No call of the
 * broker has other metadata.
 */
function sendMetadata(this: ServedCall): void {
  own(this).sendMetadata.call(this, noCompression);
}

const noCompression = new Metadata();
noCompression.set('grpc-accept-encoding', 'identity');
const headers = noCompression.toHttp2Headers();
noCompression.toHttp2Headers = () => headers;
