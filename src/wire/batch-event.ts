import { varintBytes, writeVarint } from './varint.ts';

const generationTag = 0x08;

/** The bytes of a SubscribeResponse: the generation, and the encoded field 4 of a batch behind it. */
export function frameBatchEvent(generation: number, field: Buffer): Buffer {
  const event = new FramedEvent(generation, field);
  const bytes = Buffer.allocUnsafe(event.byteLength);
  event.copy(bytes, 0);
  return bytes;
}

/**
 * The same SubscribeResponse, not yet in one piece. The server of @grpc/grpc-js asks a serialized message for its
 * `byteLength` and then has it `copy` itself behind the frame header, so handing it this instead of a Buffer spares each
 * delivery one allocation and one copy of the batch.
 */
export class FramedEvent {
  readonly byteLength: number;
  private readonly generation: number;
  private readonly field: Buffer;

  constructor(generation: number, field: Buffer) {
    this.generation = generation;
    this.field = field;
    this.byteLength = 1 + varintBytes(generation) + field.length;
  }

  /** Writes all of it into `target` from `offset` on, where `byteLength` bytes must be free, as `Buffer.copy` does. */
  copy(target: Buffer, offset: number): number {
    target[offset] = generationTag;
    this.field.copy(target, writeVarint(target, offset + 1, this.generation));
    return this.byteLength;
  }
}

/**
 * A message with some batches behind it: `small` is everything else, encoded; each of `fields` is an encoded field 4. The
 * order of fields does not matter to decoders.
 */
export function appendFields(small: Uint8Array, fields: readonly Buffer[]): Buffer {
  return Buffer.concat([small, ...fields]);
}
