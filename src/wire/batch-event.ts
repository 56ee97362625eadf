import { varintBytes, writeVarint } from './varint.ts';

const generationTag = 0x08;

/**
 * A SubscribeResponse in parts: the generation, and the encoded field 4 of a batch behind it. All
 * groups share `field`. A transport that can send parts sends it as it is; any other copies it.
 */
export class FramedEvent {
  readonly field: Buffer;
  readonly headBytes: number;
  readonly #generation: number;

  constructor(generation: number, field: Buffer) {
    this.field = field;
    this.headBytes = 1 + varintBytes(generation);
    this.#generation = generation;
  }

  get byteLength(): number {
    return this.headBytes + this.field.length;
  }

  /** Writes the bytes before `field`; `headBytes` must be free from `offset` on. */
  writeHead(target: Buffer, offset: number): void {
    target[offset] = generationTag;
    writeVarint(target, offset + 1, this.#generation);
  }

  /**
   * Writes all of it into `target` from `offset` on, where `byteLength` bytes must be free, as
   * `Buffer.copy` does.
   */
  copy(target: Buffer, offset: number): number {
    this.writeHead(target, offset);
    this.field.copy(target, offset + this.headBytes);
    return this.byteLength;
  }

  toBuffer(): Buffer {
    const bytes = Buffer.allocUnsafe(this.byteLength);
    this.copy(bytes, 0);
    return bytes;
  }
}

/**
 * A message with some batches behind it: `small` is everything else, encoded; each of `fields` is
 * an encoded field 4. The order of fields does not matter to decoders.
 */
export function appendFields(small: Uint8Array, fields: readonly Buffer[]): Buffer {
  return Buffer.concat([small, ...fields]);
}
