import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import type { EventSink, StreamEvent } from '../../delivery/ports/session.ts';
import { limits } from '../../limits/limits.ts';
import type { ReportBug } from '../edge/errors.ts';
import { encodeEvent } from '../translation/events.ts';
import type { RawServerStream } from './definition.ts';
import { statusOf } from './status.ts';

/** The private fields of a call of grpc-js that this needs. */
interface CallFields {
  readonly call: { readonly stream: ServerHttp2Stream };
}

/**
 * A Subscribe stream over grpc-js. `unsentBytes` is exact: grpc-js calls back for each message once
 * HTTP/2 has handed it to the socket, in order, so a reader that stops shows at once.
 */
export class GrpcEventSink implements EventSink {
  onDrain: (() => void) | null = null;
  #unsentBytes = 0;
  #hasTaken = false;
  #ended = false;
  readonly #call: RawServerStream;
  readonly #answered: () => void;
  readonly #reportBug: ReportBug;

  /** @param answered called with each event, before it goes to the transport. */
  constructor(call: RawServerStream, reportBug: ReportBug, answered: () => void) {
    this.#call = call;
    this.#answered = answered;
    this.#reportBug = reportBug;
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  send(event: StreamEvent): void {
    if (this.#ended) return;
    const message = encodeEvent(event);
    const bytes = message.byteLength + limits.unsentEventBytes;
    this.#unsentBytes += bytes;
    this.#answered();
    // A batch is not a Buffer: see ./send-in-pieces.ts.
    this.#call.write(message as Buffer, () => {
      this.#unsentBytes -= bytes;
      this.#hasTaken = true;
      this.onDrain?.();
    });
  }

  end(error: Rejection | null): void {
    this.fail(error);
  }

  hasProgress(): boolean {
    const progress = this.#hasTaken || this.#unsentBytes === 0;
    this.#hasTaken = false;
    return progress;
  }

  cut(): void {
    const { stream } = (this.#call as unknown as CallFields).call;
    stream.close(constants.NGHTTP2_CANCEL);
  }

  /**
   * As `end`, with any thrown error; null ends the stream well. Events sent before still go out.
   */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    if (error === null) this.#call.end();
    else this.#call.emit('error', statusOf(error, this.#reportBug));
  }

  /** The client has gone, so nothing is sent after this. */
  closed(): void {
    this.#ended = true;
  }
}
