import { constants, type ServerHttp2Stream } from 'node:http2';
import type { StatusObject } from '@grpc/grpc-js';
import type { OwnedKind } from '../../account/owner.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import { BufferedBodies } from '../bodies/buffered-bodies.ts';
import { Deadlines } from '../../time/deadlines.ts';
import type { ReportBug } from '../edge/errors.ts';
import { FramedMessages } from '../bodies/framed-messages.ts';
import { countRead } from '../connections/stream-turns.ts';
import { own, type RawBidiStream, type ServedCall } from './definition.ts';
import { OpenCall } from './open-call.ts';
import { statusOf } from './status.ts';

/** In this time a client that reads slowly has read the answers to a whole window. */
const pausedMs = limits.unreadAnswerMs + (1_000 * limits.receiveWindowBytes) / limits.answerReadBytesPerSecond;
const pausedRoundsMax = Math.ceil(pausedMs / limits.partialRequestMs);

/** The request of one call, as its transport and its limits see it. */
class RequestBody {
  readonly bytesMax = limits.publishBytesMax;
  readonly single: boolean;
  readonly room: OwnedKind;
  readonly stream: ServerHttp2Stream;
  readonly messages: FramedMessages;
  readonly #call: ServedCall;
  readonly #bodies: RequestBodies;
  #isOver = false;
  /** How often the time of a message begins again, because the broker does not read its stream. */
  #patience = pausedRoundsMax;

  constructor(call: ServedCall, single: boolean, room: OwnedKind, bodies: RequestBodies) {
    this.single = single;
    this.room = room;
    this.stream = call.stream;
    this.messages = new FramedMessages(this);
    this.#call = call;
    this.#bodies = bodies;
  }

  get readBytes(): number {
    return this.messages.readBytes;
  }

  isComplete(): void {
    this.#patience = pausedRoundsMax;
  }

  /** A client that never reads its answers would keep its stream paused for ever. */
  mayBeLater(): boolean {
    return this.stream.isPaused() && this.#patience-- > 0;
  }

  received(bytes: number): void {
    countRead(this.stream, bytes);
  }

  refused(why: Rejection): void {
    const { stream } = this;
    this.#call.handleEndEvent = () => undefined;
    this.messages.close();
    const isAnswer = !stream.headersSent;
    this.#call.sendStatus(this.#bodies.statusOf(why));
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

  /** The request has ended, or its call. Idempotent. */
  over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.messages.close();
    this.#bodies.over(this);
  }
}

/**
 * Puts FramedMessages in place of grpc-js's decoder, which keeps a message as a list of its pieces:
 * 114 bytes for a piece of one. Every request must be complete within a time, counted from its
 * beginning, and each message of a stream too.
 */
export class RequestBodies {
  readonly #deadlines: Deadlines<RequestBody>;
  readonly #buffered: BufferedBodies;
  readonly #reportBug: ReportBug;

  constructor(clock: Clock, reportBug: ReportBug) {
    this.#reportBug = reportBug;
    this.#deadlines = new Deadlines(clock, limits.partialRequestMs, (body) => {
      this.#late(body);
    });
    this.#buffered = new BufferedBodies(clock);
  }

  /** @param single the call takes one message. */
  decode(call: ServedCall, single: boolean): void {
    const open = OpenCall.ofStream(call.stream);
    const body = new RequestBody(call, single, open.account.bodies, this);
    open.body = body;
    if (single) {
      this.#deadlines.begin(body);
      call.decoder = body.messages;
      call.handleEndEvent = endOfRequest;
    } else {
      this.#buffered.begin(body);
      call.decoder = this.#timed(body);
    }
  }

  over(body: RequestBody): void {
    this.#deadlines.over(body);
    if (!body.single) this.#buffered.over(body);
  }

  statusOf(why: Rejection): StatusObject {
    return statusOf(why, this.#reportBug);
  }

  stop(): void {
    this.#deadlines.stop();
    this.#buffered.stop();
  }

  /** Of a stream each message has its time from its first byte. */
  #timed(body: RequestBody): ServedCall['decoder'] & Partially {
    const { messages } = body;
    return {
      get isPartial() {
        return messages.isPartial;
      },
      write: (chunk) => {
        const complete = messages.write(chunk);
        if (complete.length > 0) body.isComplete();
        if (complete.length > 0 || !messages.isPartial) this.#deadlines.over(body);
        if (messages.isPartial) this.#deadlines.beginOnce(body);
        return complete;
      },
    };
  }

  /** A stream that the broker does not read is not late, unless it is for very long. */
  #late(body: RequestBody): void {
    if (body.mayBeLater()) {
      this.#deadlines.begin(body);
      return;
    }
    const seconds = limits.partialRequestMs / 1_000;
    body.refused(malformedRequest(`the request was not complete within ${seconds} s`));
  }
}

/** In place of the method of a call that takes one message. */
function endOfRequest(this: ServedCall): void {
  OpenCall.ofStream(this.stream).body?.over();
  own(this).handleEndEvent.call(this);
}

interface Partially {
  readonly isPartial: boolean;
}

/** Whether a stream ended within a message. */
export function endedWithinMessage(stream: RawBidiStream): boolean {
  const { call } = stream as unknown as { readonly call: { readonly decoder: Partially } };
  return call.decoder.isPartial;
}
