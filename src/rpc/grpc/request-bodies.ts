import { constants, type Http2Session, type ServerHttp2Stream } from 'node:http2';
import type { ServerInterceptingCall, ServerInterceptor } from '@grpc/grpc-js';
import type { OwnedKind } from '../../account/owner.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import type { ConnectionAccounts } from '../edge/connection-accounts.ts';
import { BufferedBodies } from '../edge/buffered-bodies.ts';
import { Deadlines } from '../edge/deadlines.ts';
import type { ReportBug } from '../edge/errors.ts';
import { FramedMessages } from '../edge/framed-messages.ts';
import type { RawBidiStream } from './definition.ts';
import { statusOf } from './status.ts';

/** The private fields of a call of grpc-js that this needs; a test pins them. */
interface CallFields {
  stream: ServerHttp2Stream;
  decoder: { write(chunk: Buffer): Buffer[] };
  /** At the end of the request, also by a reset; then the handler gets the message. */
  handleEndEvent: () => void;
}

/** The request of one call, as its transport and its limits see it. */
class RequestBody {
  readonly bytesMax = limits.publishBytesMax;
  readonly single: boolean;
  readonly room: OwnedKind;
  readonly stream: ServerHttp2Stream;
  readonly messages: FramedMessages;
  readonly #call: ServerInterceptingCall;
  readonly #reportBug: ReportBug;

  constructor(call: ServerInterceptingCall, single: boolean, room: OwnedKind, reportBug: ReportBug) {
    this.single = single;
    this.room = room;
    this.stream = (call as unknown as CallFields).stream;
    this.messages = new FramedMessages(this);
    this.#call = call;
    this.#reportBug = reportBug;
  }

  refused(why: Rejection): void {
    const { stream } = this;
    (this.#call as unknown as CallFields).handleEndEvent = () => undefined;
    this.messages.close();
    const isAnswer = !stream.headersSent;
    this.#call.sendStatus(statusOf(why, this.#reportBug));
    if (stream.destroyed) return;
    // The reset without an error asks the client to send the remainder no more.
    if (isAnswer) stream.close(constants.NGHTTP2_NO_ERROR);
    // What comes before the client has read its answers is dropped.
    else stream.resume();
  }

  putBack(rest: Buffer): void {
    // A stream that flows would hand them out again at once.
    this.stream.pause();
    this.stream.unshift(rest);
  }
}

/**
 * Puts FramedMessages in place of grpc-js's decoder, which keeps a message as a list of its pieces:
 * 114 bytes for a piece of one. Every request must be complete within a time, counted from its
 * beginning, and each message of a stream too.
 */
export class RequestBodies {
  readonly #accounts: ConnectionAccounts;
  readonly #deadlines: Deadlines<RequestBody>;
  readonly #buffered: BufferedBodies;
  readonly #reportBug: ReportBug;

  constructor(accounts: ConnectionAccounts, clock: Clock, reportBug: ReportBug) {
    this.#accounts = accounts;
    this.#reportBug = reportBug;
    this.#deadlines = new Deadlines(clock, limits.partialRequestMs, (body) => {
      this.#late(body);
    });
    this.#buffered = new BufferedBodies(clock);
  }

  readonly interceptor: ServerInterceptor = ({ requestStream }, call) => {
    const fields = call as unknown as CallFields;
    const { stream } = fields;
    const { session } = stream;
    if (session !== undefined) this.#decode(call as ServerInterceptingCall, fields, session, !requestStream);
    return call as ServerInterceptingCall;
  };

  stop(): void {
    this.#deadlines.stop();
    this.#buffered.stop();
  }

  #decode(call: ServerInterceptingCall, fields: CallFields, session: Http2Session, single: boolean): void {
    const { stream } = fields;
    const body = new RequestBody(call, single, this.#accounts.of(session).bodies, this.#reportBug);
    const over = () => {
      body.messages.close();
      this.#deadlines.over(body);
      if (!single) this.#buffered.over(body);
    };
    stream.once('close', over);
    if (single) {
      this.#deadlines.begin(body);
      stream.once('end', over);
      fields.decoder = body.messages;
    } else {
      this.#buffered.begin(body);
      fields.decoder = this.#timed(body);
    }
  }

  /** Of a stream each message has its time from its first byte. */
  #timed(body: RequestBody): CallFields['decoder'] & Partially {
    const { messages } = body;
    return {
      get isPartial() {
        return messages.isPartial;
      },
      write: (chunk) => {
        const complete = messages.write(chunk);
        if (complete.length > 0 || !messages.isPartial) this.#deadlines.over(body);
        if (messages.isPartial) this.#deadlines.beginOnce(body);
        return complete;
      },
    };
  }

  /** A stream that the broker does not read is not late. */
  #late(body: RequestBody): void {
    if (body.stream.isPaused()) {
      this.#deadlines.begin(body);
      return;
    }
    const seconds = limits.partialRequestMs / 1_000;
    body.refused(malformedRequest(`the request was not complete within ${seconds} s`));
  }
}

interface Partially {
  readonly isPartial: boolean;
}

/** Whether a stream ended within a message. */
export function endedWithinMessage(stream: RawBidiStream): boolean {
  const { call } = stream as unknown as { readonly call: { readonly decoder: Partially } };
  return call.decoder.isPartial;
}
