import { fromBinary } from '@bufbuild/protobuf';
import { SubscribeResponseSchema } from '../../gen/millrace/v1/broker_pb.js';
import type { SubscribeResponse } from '../../gen/millrace/v1/broker_pb.js';

/**
 * A batch as the lean client reads it. That client encodes requests once and sends them repeatedly,
 * drops answers unread, and reads only what an ack needs of a batch. The difference to the ordinary
 * client is the cost of protobuf-es.
 */
export interface ScannedBatch {
  readonly partition: number;
  readonly lane: number;
  readonly records: number;
  readonly lastOffset: number;
}

export type LeanEvent =
  { readonly batch: ScannedBatch; readonly other: null } | { readonly batch: null; readonly other: SubscribeResponse };

const batchField = 4;
const recordsField = 4;
const partitionField = 2;
const laneField = 3;
const offsetField = 1;

/** Scans a batch event. Decodes any other event, because those are rare. */
export function scanEvent(bytes: Buffer): LeanEvent {
  const reader = new Reader(bytes, 0, bytes.length);
  while (reader.more()) {
    const field = reader.tag();
    if (field === batchField) return { batch: scanBatch(reader.message()), other: null };
    reader.skip();
  }
  return { batch: null, other: fromBinary(SubscribeResponseSchema, bytes) };
}

function scanBatch(batch: Reader): ScannedBatch {
  let partition = 0;
  let lane = 0;
  let records = 0;
  let last: Reader | null = null;
  while (batch.more()) {
    const field = batch.tag();
    if (field === partitionField) partition = batch.varint();
    else if (field === laneField) lane = batch.varint();
    else if (field === recordsField) {
      records++;
      last = batch.message();
    } else batch.skip();
  }
  return { partition, lane, records, lastOffset: last === null ? -1 : offsetOf(last) };
}

function offsetOf(record: Reader): number {
  while (record.more()) {
    if (record.tag() === offsetField) return record.varint();
    record.skip();
  }
  return -1;
}

/** Reads the fields of a message without decoding the message. */
class Reader {
  readonly #bytes: Buffer;
  readonly #end: number;
  #position: number;
  #wireType = 0;

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes;
    this.#position = start;
    this.#end = end;
  }

  more(): boolean {
    return this.#position < this.#end;
  }

  tag(): number {
    const tag = this.varint();
    this.#wireType = tag & 7;
    return tag >>> 3;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.#bytes[this.#position++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
  }

  message(): Reader {
    const length = this.varint();
    const start = this.#position;
    this.#position += length;
    return new Reader(this.#bytes, start, this.#position);
  }

  skip(): void {
    if (this.#wireType === 0) this.varint();
    else if (this.#wireType === 1) this.#position += 8;
    else if (this.#wireType === 5) this.#position += 4;
    else {
      const length = this.varint();
      this.#position += length;
    }
  }
}
