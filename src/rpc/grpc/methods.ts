import { toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import type { sendUnaryData } from '@grpc/grpc-js';
import { BrokerService, SubscribeRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import type { MemberStream, StreamEnd } from '../../delivery/ports/session.ts';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import { answerBytesMax } from '../answers/answer-size.ts';
import type { ReceiveWindows } from '../connections/receive-windows.ts';
import type { ReportBug } from '../edge/errors.ts';
import type { RequestDecoder } from '../translation/request-decoder.ts';
import type { Handlers, UnaryMethod } from '../handlers/handlers.ts';
import type { PublishHandler } from '../handlers/publish.ts';
import { GrpcCall } from './call.ts';
import {
  asBuffer,
  type RawBidiStream,
  type RawPublishCall,
  type RawServerStream,
  type RawUnaryCall,
} from './definition.ts';
import { GrpcEventSink } from './event-sink.ts';
import type { Http2Sessions } from './http2-sessions.ts';
import type { OpenStreams } from './open-streams.ts';
import { endedWithinMessage } from './request-bodies.ts';
import { statusOf } from './status.ts';

/** The handlers as functions of grpc-js, one for each kind of method. */

type Respond = sendUnaryData<Buffer>;

export function publishMethod(
  publish: PublishHandler,
  windows: ReceiveWindows,
  decoder: RequestDecoder,
  reportBug: ReportBug,
) {
  return (raw: RawPublishCall, respond: Respond): void => {
    const call = new GrpcCall(raw, decoder);
    const { open } = call;
    const { refusal } = open;
    if (refusal !== null) {
      respond(statusOf(refusal, reportBug));
      return;
    }
    if (raw.request.length > limits.wideFromBytes) windows.widen(open.account.session);
    publish(call, raw.request).then(
      (response) => {
        open.answer(response.length);
        respond(null, response);
      },
      (error: unknown) => {
        respond(statusOf(error, reportBug));
      },
    );
  };
}

export function unaryMethod(
  { method, handle, handleBytes }: UnaryMethod,
  decoder: RequestDecoder,
  reportBug: ReportBug,
) {
  const bytesMax = answerBytesMax(method);
  const mayRefuse = bytesMax !== null || method === BrokerService.method.pull;
  const serve = (call: GrpcCall, message: MessageShape<DescMessage>): Promise<unknown> => {
    const room = bytesMax === null ? null : call.open.reserve(bytesMax(message));
    return room === null ? handle(call, message) : room.then(() => handle(call, message));
  };
  // No async function, which would keep the bytes of the request while it waits.
  const begin = (call: GrpcCall, request: Buffer): Promise<unknown> => {
    const { refusal } = call.open;
    if (refusal !== null) throw refusal;
    const answered = handleBytes?.(call, request) ?? null;
    if (answered !== null) return answered;
    const message = call.decode(method.input, request);
    return message instanceof Promise ? message.then((later) => serve(call, later)) : serve(call, message);
  };
  const answer = async (call: GrpcCall, raw: RawUnaryCall): Promise<Buffer> => {
    const { open } = call;
    const response = encoded(method.output, await begin(call, raw.request.take()));
    if (!mayRefuse) open.answer(response.length);
    else if (!open.mayAnswer(response.length)) throw open.refusalOf(response.length);
    return response;
  };
  return (raw: RawUnaryCall, respond: Respond): void => {
    const call = new GrpcCall(raw, decoder);
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
  decoder: RequestDecoder,
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
    const request = await call.decode(SubscribeRequestSchema, raw.request.take());
    member = await subscribe(call, request, sink);
    // The client may have gone while the broker handled the call.
    if (end !== null) member.closed(end);
  };
  return (raw: RawServerStream): void => {
    const call = new GrpcCall(raw, decoder);
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

export function publishStreamMethod(
  handlers: Handlers,
  streams: OpenStreams,
  windows: ReceiveWindows,
  decoder: RequestDecoder,
  reportBug: ReportBug,
) {
  return (call: RawBidiStream): void => {
    const publisher = new GrpcCall(call, decoder);
    const { open } = publisher;
    windows.widen(open.account.session);
    const stream = handlers.publishStream(publisher, {
      respond: (response, taken) => {
        open.answer(response.length + limits.unsentEventBytes);
        call.write(response, taken);
      },
      taken: (bytes) => {
        open.read(bytes + limits.unsentEventBytes);
      },
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
      const { refusal } = open;
      if (refusal === null) stream.receive(request);
      else stream.refuse(refusal);
    });
  };
}
