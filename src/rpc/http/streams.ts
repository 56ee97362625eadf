import { create, fromBinary } from '@bufbuild/protobuf';
import { ConnectError, type HandlerContext as ConnectContext } from '@connectrpc/connect';
import {
  PublishStreamResponseSchema,
  SubscribeResponseSchema,
  type PublishStreamRequest,
  type PublishStreamResponse,
  type SubscribeRequest,
  type SubscribeResponse,
} from '../../../gen/millrace/v1/broker_pb.js';
import type { StreamEnd } from '../../delivery/ports/session.ts';
import { limits } from '../../limits/limits.ts';
import type { MethodCalls } from '../edge/call-counts.ts';
import type { ReportBug } from '../edge/errors.ts';
import type { Handlers } from '../handlers/handlers.ts';
import type { PublishStream } from '../handlers/publish-stream.ts';
import type { AnswerEncoder } from './answer-encoder.ts';
import { decodedOr, HttpCall } from './call.ts';
import { connectErrorOf } from '../requests/connect-error.ts';
import { HttpEventSink } from './event-sink.ts';
import { malformedMessage } from '../requests/message-decoding.ts';
import { checkJsonBatch } from '../answers/json-records.ts';
import { Outbox } from './outbox.ts';
import { requestFacts } from '../requests/request-facts.ts';

export function subscribeRoute(handlers: Handlers, encoder: AnswerEncoder, calls: MethodCalls, reportBug: ReportBug) {
  return async function* (message: SubscribeRequest, context: ConnectContext): AsyncGenerator<SubscribeResponse> {
    const call = new HttpCall(context);
    const { encoded, json, response, isConnected } = context.values.get(requestFacts);
    const answered = () => {
      call.answered();
    };
    const sink = new HttpEventSink(reportBug, answered, response);
    let end: StreamEnd = 'ENDED';
    context.signal.addEventListener('abort', () => {
      end = isConnected() ? 'CANCELLED' : 'CONNECTION_LOST';
      sink.closed();
    });
    const member = await handlers.subscribe(call, decodedOr(context, message), sink).catch((error: unknown) => {
      call.failed();
      const refused = connectErrorOf(error, reportBug);
      calls.ended(refused.code);
      throw refused;
    });
    const ending = new StreamEnding(calls);
    try {
      for await (const event of sink.messages()) {
        if (json) encoded.push(await encodeJson(event, encoder, reportBug));
        yield json ? create(SubscribeResponseSchema) : event;
      }
      ending.inOrder();
    } catch (error) {
      ending.failed(error);
      throw error;
    } finally {
      ending.count(context.signal.aborted);
      call.failed();
      sink.closed();
      // What the broker has sent may wait in the response for a client that does not read.
      response.whenClosed(() => {
        member.closed(end);
      });
    }
  };
}

/** @throws ConnectError if one record alone is too large */
async function encodeJson(event: SubscribeResponse, encoder: AnswerEncoder, reportBug: ReportBug): Promise<Buffer> {
  try {
    if (event.event.case === 'batch') checkJsonBatch(event.event.value);
    return await encoder.encode(SubscribeResponseSchema, event, true);
  } catch (error) {
    throw connectErrorOf(error, reportBug);
  }
}

/** Needs HTTP/2: over HTTP/1.1 connect-node answers 505 by itself. */
export function publishStreamRoute(
  handlers: Handlers,
  stopping: AbortSignal,
  calls: MethodCalls,
  reportBug: ReportBug,
) {
  return async function* (
    requests: AsyncIterable<PublishStreamRequest>,
    context: ConnectContext,
  ): AsyncGenerator<PublishStreamResponse> {
    const outbox = new Outbox<Buffer>();
    const reading = new Gate();
    const { answer, messages } = context.values.get(requestFacts);
    const stream = handlers.publishStream(new HttpCall(context), {
      respond: (response, taken) => {
        answer.waits(response.length + limits.unsentEventBytes);
        outbox.push(response, taken);
      },
      taken: (bytes) => {
        answer.taken(bytes + limits.unsentEventBytes);
      },
      end: (error) => {
        outbox.end(error === null ? null : connectErrorOf(error, reportBug));
      },
      pause: () => {
        reading.shut();
      },
      resume: () => {
        reading.open();
      },
    });
    const drain = () => {
      stream.drain();
    };
    stopping.addEventListener('abort', drain);
    context.signal.addEventListener('abort', () => {
      stream.closed();
      outbox.drop();
    });
    void receiveAll(requests, messages, stream, reading);
    const ending = new StreamEnding(calls);
    try {
      for await (const bytes of outbox.items()) yield fromBinary(PublishStreamResponseSchema, bytes);
      ending.inOrder();
    } catch (error) {
      ending.failed(error);
      throw error;
    } finally {
      ending.count(context.signal.aborted);
      stream.closed();
      stopping.removeEventListener('abort', drain);
    }
  };
}

async function receiveAll(
  requests: AsyncIterable<PublishStreamRequest>,
  messages: unknown[],
  stream: PublishStream,
  reading: Gate,
) {
  try {
    for await (const _ of requests) {
      stream.receive(messages.shift() as Buffer);
      await reading.opened();
    }
    stream.finish();
  } catch (error) {
    stream.refuse(malformedMessage(error));
  }
}

/** How a stream ends. connect-node leaves the generator of a stream that its client has ended. */
class StreamEnding {
  readonly #calls: MethodCalls;
  #code = cancelled;

  constructor(calls: MethodCalls) {
    this.#calls = calls;
  }

  inOrder(): void {
    this.#code = 0;
  }

  failed(error: unknown): void {
    this.#code = ConnectError.from(error).code;
  }

  count(isAborted: boolean): void {
    this.#calls.ended(isAborted ? cancelled : this.#code);
  }
}

const cancelled = 1;

class Gate {
  #opened: Promise<void> = Promise.resolve();
  #open: () => void = () => undefined;

  opened(): Promise<void> {
    return this.#opened;
  }

  shut(): void {
    this.#opened = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  open(): void {
    this.#open();
  }
}
