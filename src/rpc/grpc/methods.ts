import { toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import type { sendUnaryData } from '@grpc/grpc-js';
import type { Counted } from '../../account/hold.ts';
import { SubscribeRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import type { MemberStream, StreamEnd } from '../../delivery/ports/session.ts';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import type { ReportBug } from '../edge/errors.ts';
import type { Handlers, UnaryMethod } from '../handlers/handlers.ts';
import type { PublishHandler } from '../handlers/publish.ts';
import { asBuffer } from './as-buffer.ts';
import { GrpcCall } from './call.ts';
import type { RawBidiStream, RawPublishCall, RawServerStream, RawUnaryCall } from './definition.ts';
import { GrpcEventSink } from './event-sink.ts';
import type { Http2Sessions } from './http2-sessions.ts';
import type { OpenStreams } from './open-streams.ts';
import { endedWithinMessage } from './request-bodies.ts';
import { statusOf } from './status.ts';

/** The handlers as functions of grpc-js, one for each kind of method. */

type Respond = sendUnaryData<Buffer>;

export function publishMethod(publish: PublishHandler, decoded: Counted, reportBug: ReportBug) {
  return (call: RawPublishCall, respond: Respond): void => {
    publish(new GrpcCall(call, decoded), call.request).then(
      (response) => {
        respond(null, response);
      },
      (error: unknown) => {
        respond(statusOf(error, reportBug));
      },
    );
  };
}

export function unaryMethod({ method, handle, handleBytes }: UnaryMethod, decoded: Counted, reportBug: ReportBug) {
  // No async function, which would keep the bytes of the request while it waits.
  const begin = (call: GrpcCall, request: Buffer): Promise<unknown> =>
    handleBytes?.(call, request) ?? handle(call, call.decode(method.input, request));
  const answer = async (call: GrpcCall, raw: RawUnaryCall): Promise<Buffer> =>
    encoded(method.output, await begin(call, raw.request.take()));
  return (raw: RawUnaryCall, respond: Respond): void => {
    const call = new GrpcCall(raw, decoded);
    answer(call, raw).then(
      (response) => {
        call.handled();
        call.answered();
        respond(null, response);
      },
      (error: unknown) => {
        call.handled();
        call.failed();
        respond(statusOf(error, reportBug));
      },
    );
  };
}

function encoded<D extends DescMessage>(desc: D, response: unknown): Buffer {
  if (Buffer.isBuffer(response)) return response;
  return asBuffer(toBinary(desc, response as MessageShape<D>));
}

export function subscribeMethod(
  subscribe: Handlers['subscribe'],
  streams: OpenStreams,
  sessions: Http2Sessions,
  decoded: Counted,
  reportBug: ReportBug,
) {
  const open = async (raw: RawServerStream, call: GrpcCall, sink: GrpcEventSink): Promise<void> => {
    let member: MemberStream | null = null;
    let end: StreamEnd | null = null;
    const peer = raw.getPeer();
    // grpc-js has this one event for a stream that is reset and for a connection that ends.
    raw.once('cancelled', () => {
      end = sessions.isConnected(peer) ? 'CANCELLED' : 'CONNECTION_LOST';
      sink.closed();
      member?.closed(end);
    });
    member = await subscribe(call, call.decode(SubscribeRequestSchema, raw.request.take()), sink);
    // The client may have gone while the broker handled the call.
    if (end !== null) member.closed(end);
  };
  return (raw: RawServerStream): void => {
    const call = new GrpcCall(raw, decoded);
    const sink = new GrpcEventSink(raw, reportBug, () => {
      call.answered();
    });
    streams.opened(raw);
    open(raw, call, sink)
      .catch((error: unknown) => {
        call.failed();
        sink.fail(error);
      })
      .finally(() => {
        call.handled();
      });
  };
}

export function publishStreamMethod(handlers: Handlers, streams: OpenStreams, decoded: Counted, reportBug: ReportBug) {
  return (call: RawBidiStream): void => {
    const stream = handlers.publishStream(new GrpcCall(call, decoded), {
      respond: (response, taken) => call.write(response, taken),
      end: (error) => {
        if (error === null) call.end();
        else call.emit('error', statusOf(error, reportBug));
      },
      pause: () => call.pause(),
      resume: () => call.resume(),
    });
    streams.opened(call, () => {
      stream.drain();
    });
    call.once('cancelled', () => {
      stream.closed();
    });
    call.on('end', () => {
      if (endedWithinMessage(call)) stream.refuse(malformedRequest('the request is cut short'));
      stream.finish();
    });
    call.on('data', (request: Buffer) => {
      stream.receive(request);
    });
  };
}
