import { create, fromBinary } from '@bufbuild/protobuf';
import { SubscribeResponseSchema, type SubscribeResponse } from '../../../gen/millrace/v1/broker_pb.js';
import type { Batch } from '../../../gen/millrace/v1/record_pb.js';
import type { EventSink, StreamEvent } from '../../delivery/ports/session.ts';
import { limits } from '../../limits/limits.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import type { FramedEvent } from '../../wire/batch-event.ts';
import type { ReportBug } from '../edge/errors.ts';
import { encodeEvent } from '../translation/events.ts';
import { jsonBytesOfRecord } from '../answers/json-records.ts';
import { connectErrorOf } from '../requests/connect-error.ts';
import { Outbox } from './outbox.ts';

/** A response of Node, as its transport sees it. */
interface ResponseEnd {
  /** Bytes that Node has buffered, because the client has not taken them. */
  readonly unsentBytes: () => number;
  readonly cut: () => void;
}

/** Node buffers so much of a response before it asks to wait. */
const responseBufferBytes = 16_384;

/**
 * A Subscribe stream over connect-node. Waiting events are bytes, which `unsentBytes` counts. They
 * become messages one by one as the socket takes them.
 */
export class HttpEventSink implements EventSink {
  onDrain: (() => void) | null = null;
  #unsentBytes = 0;
  #ended = false;
  /** The copies that connect-node keeps of the part that it sends. */
  #converted = 0;
  #hasTaken = false;
  /** What the response had buffered at the last look. */
  #bufferedBytes = 0;
  readonly #outbox = new Outbox<Buffer | FramedEvent>();
  readonly #response: ResponseEnd;
  readonly #reportBug: ReportBug;
  readonly #answered: () => void;

  /**
   * @param answered called with each event, before it goes to the transport.
   * @param response the response as its transport sees it.
   */
  constructor(reportBug: ReportBug, answered: () => void, response: ResponseEnd) {
    this.#reportBug = reportBug;
    this.#response = response;
    this.#answered = answered;
  }

  get unsentBytes(): number {
    return this.#unsentBytes + this.#converted + this.#response.unsentBytes();
  }

  send(event: StreamEvent): void {
    if (this.#ended) return;
    const message = encodeEvent(event);
    const bytes = message.byteLength + limits.unsentEventBytes;
    this.#unsentBytes += bytes;
    this.#outbox.push(message, () => {
      this.#unsentBytes -= bytes;
      this.#converted = 0;
      this.#hasTaken = true;
      this.onDrain?.();
    });
  }

  cut(): void {
    this.#response.cut();
  }

  /**
   * A response takes events into a buffer although its client reads nothing, until the buffer is
   * full. Below that only a buffer that becomes smaller is progress.
   */
  hasProgress(): boolean {
    const bytes = this.#response.unsentBytes();
    const isFull = bytes >= responseBufferBytes;
    const progress = isFull ? this.#hasTaken : bytes < this.#bufferedBytes || this.unsentBytes === 0;
    this.#bufferedBytes = bytes;
    this.#hasTaken = false;
    return progress;
  }

  end(error: Rejection | null): void {
    this.#ended = true;
    this.#outbox.end(error === null ? null : connectErrorOf(error, this.#reportBug));
  }

  /** The client has gone, so nothing is sent after this. */
  closed(): void {
    this.#ended = true;
    this.#outbox.drop();
  }

  async *messages(): AsyncGenerator<SubscribeResponse, void, undefined> {
    for await (const event of this.#outbox.items()) {
      this.#answered();
      const bytes = Buffer.isBuffer(event) ? event : event.toBuffer();
      this.#converted = copies * Math.min(bytes.length, partBytesMax);
      yield* inParts(fromBinary(SubscribeResponseSchema, bytes));
    }
  }
}

/**
 * Splits a batch into several, each with at most this many bytes of records in JSON (or one
 * record), because a whole message is converted, and its copies are kept until the client takes it.
 */
const partBytesMax = 131_072;
/** A message becomes JSON as text, as bytes, and as an envelope. */
const copies = 3;

function* inParts(message: SubscribeResponse): Generator<SubscribeResponse, void, undefined> {
  const { event } = message;
  if (event.case !== 'batch') {
    yield message;
    return;
  }
  const { records } = event.value;
  let begin = 0;
  let bytes = 0;
  for (const [index, { record }] of records.entries()) {
    const size = jsonBytesOfRecord(record);
    if (index > begin && bytes + size > partBytesMax) {
      yield partOf(message.generation, event.value, begin, index);
      begin = index;
      bytes = 0;
    }
    bytes += size;
  }
  yield begin === 0 ? message : partOf(message.generation, event.value, begin, records.length);
}

function partOf(generation: bigint | undefined, batch: Batch, begin: number, end: number): SubscribeResponse {
  const { topic, partition, lane, records } = batch;
  return create(SubscribeResponseSchema, {
    generation,
    event: { case: 'batch', value: { topic, partition, lane, records: records.slice(begin, end) } },
  });
}
