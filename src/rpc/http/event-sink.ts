import { fromBinary } from '@bufbuild/protobuf';
import { SubscribeResponseSchema, type SubscribeResponse } from '../../../gen/millrace/v1/broker_pb.js';
import type { EventSink, StreamEvent } from '../../delivery/session.ts';
import type { Rejection } from '../../errors/rejection.ts';
import type { FramedEvent } from '../../wire/batch-event.ts';
import type { ReportBug } from '../errors.ts';
import { encodeEvent } from '../handlers/events.ts';
import { connectErrorOf } from './connect-error.ts';
import { Outbox } from './outbox.ts';

/**
 * A Subscribe stream over connect-node. Events wait as their bytes, which is what `unsentBytes` counts, and become
 * messages one by one as the socket takes them.
 */
export class HttpEventSink implements EventSink {
  onDrain: (() => void) | null = null;
  #unsentBytes = 0;
  #ended = false;
  readonly #outbox = new Outbox<Buffer | FramedEvent>();
  readonly #reportBug: ReportBug;

  constructor(reportBug: ReportBug) {
    this.#reportBug = reportBug;
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  send(event: StreamEvent): void {
    if (this.#ended) return;
    const message = encodeEvent(event);
    const bytes = message.byteLength;
    this.#unsentBytes += bytes;
    this.#outbox.push(message, () => {
      this.#unsentBytes -= bytes;
      if (!this.#ended) this.onDrain?.();
    });
  }

  end(error: Rejection | null): void {
    this.#ended = true;
    this.#outbox.end(error === null ? null : connectErrorOf(error, this.#reportBug));
  }

  /** The client has gone: nothing is sent any more. */
  closed(): void {
    this.#ended = true;
    this.#outbox.drop();
  }

  async *messages(): AsyncGenerator<SubscribeResponse, void, undefined> {
    for await (const event of this.#outbox.items()) yield fromBinary(SubscribeResponseSchema, wholeBytes(event));
  }
}

function wholeBytes(event: Buffer | FramedEvent): Buffer {
  if (Buffer.isBuffer(event)) return event;
  const bytes = Buffer.allocUnsafe(event.byteLength);
  event.copy(bytes, 0);
  return bytes;
}
