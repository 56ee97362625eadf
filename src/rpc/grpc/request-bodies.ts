import { constants, type Http2Session, type ServerHttp2Stream } from 'node:http2';
import type { ServerInterceptingCall, ServerInterceptor } from '@grpc/grpc-js';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import type { ConnectionAccounts } from '../edge/connection-accounts.ts';
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

interface Body {
  readonly stream: ServerHttp2Stream;
  readonly refuse: (why: Rejection) => void;
}

/**
 * Puts FramedMessages in place of grpc-js's decoder, which keeps a message as a list of its pieces:
 * 114 bytes for a piece of one. Every request must be complete within a time, counted from its
 * beginning, and each message of a stream too.
 */
export class RequestBodies {
  readonly #accounts: ConnectionAccounts;
  readonly #deadlines: Deadlines<Body>;
  readonly #reportBug: ReportBug;

  constructor(accounts: ConnectionAccounts, clock: Clock, reportBug: ReportBug) {
    this.#accounts = accounts;
    this.#reportBug = reportBug;
    this.#deadlines = new Deadlines(clock, limits.partialRequestMs, (body) => {
      this.#late(body);
    });
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
  }

  #decode(call: ServerInterceptingCall, fields: CallFields, session: Http2Session, single: boolean): void {
    const { stream } = fields;
    const body: Body = {
      stream,
      refuse: (why) => {
        fields.handleEndEvent = () => undefined;
        const isAnswer = !stream.headersSent;
        call.sendStatus(statusOf(why, this.#reportBug));
        // The reset without an error asks the client to send the remainder no more.
        if (isAnswer && !stream.destroyed) stream.close(constants.NGHTTP2_NO_ERROR);
      },
    };
    const messages = new FramedMessages({
      bytesMax: limits.publishBytesMax,
      single,
      room: this.#accounts.of(session).bodies,
      refused: body.refuse,
      putBack: (rest) => {
        // A stream that flows would hand them out again at once.
        stream.pause();
        stream.unshift(rest);
      },
    });
    const over = () => {
      messages.close();
      this.#deadlines.over(body);
    };
    stream.once('close', over);
    if (single) {
      this.#deadlines.begin(body);
      stream.once('end', over);
      fields.decoder = messages;
    } else fields.decoder = this.#timed(messages, body);
  }

  /** Of a stream each message has its time from its first byte. */
  #timed(messages: FramedMessages, body: Body): CallFields['decoder'] & Partially {
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
  #late(body: Body): void {
    if (body.stream.isPaused()) {
      this.#deadlines.begin(body);
      return;
    }
    const seconds = limits.partialRequestMs / 1_000;
    body.refuse(malformedRequest(`the request was not complete within ${seconds} s`));
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
