import { isUtf8 } from 'node:buffer';
import { invalidField, malformedRequest } from '../errors/rejections/requests.ts';

/** Wire types of protobuf that Millrace reads; 3 and 4 are groups, which no message of it has. */
const varintType = 0;
const fixed64Type = 1;
const lengthType = 2;
const fixed32Type = 5;

/**
 * Up to this length a loop in JavaScript finds ASCII faster than a call of `isUtf8` and the view it
 * needs (about 200 ns; the loop takes 2 ns a byte).
 */
const asciiLoopBytesMax = 80;

/**
 * Reads the bytes of one publish request and rejects everything that is not exact protobuf. It is
 * stricter than most decoders, because every client must be able to decode what is stored. No field
 * may reach over the end of its message, known fields must have their own wire type, and there are
 * no groups.
 */
export class RequestReader {
  readonly buffer: Buffer;
  at = 0;
  /** The last varint, its lower and its upper 32 bits. */
  low = 0;
  high = 0;
  /**
   * The current place, for the violation: index of the record (-1: outside of any) and name of the
   * field.
   */
  record = -1;
  field = '';

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  /** Reads a tag that begins before `end`. */
  tag(end: number): number {
    this.field = '';
    const first = this.buffer[this.at]!;
    if (first < 0x80) {
      this.at += 1;
      return first;
    }
    const start = this.at;
    this.varint(end);
    if (this.high !== 0 || this.at - start > 5) this.fail('a tag does not fit into 32 bits');
    return this.low;
  }

  /** Reads a length. `at` is then the start of the content. @returns the end of the content. */
  length(end: number): number {
    const { at } = this;
    if (at < end && this.buffer[at]! < 0x80) {
      this.at = at + 1;
      this.low = this.buffer[at]!;
    } else {
      this.varint(end);
      if (this.high !== 0) this.fail('a length does not fit into 32 bits');
    }
    const contentEnd = this.at + this.low;
    if (contentEnd > end) this.fail(`has a length of ${this.low} bytes where ${end - this.at} are left`);
    return contentEnd;
  }

  /**
   * Reads a varint into `low` and `high`. As decoders do, it takes up to 10 bytes and drops what
   * exceeds 64 bits.
   */
  varint(end: number): void {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= end) this.fail('ends within a number');
      const byte = this.buffer[this.at++]!;
      if (shift < 28) low |= (byte & 0x7f) << shift;
      else if (shift === 28) {
        low |= (byte & 0x0f) << 28;
        high = (byte & 0x70) >>> 4;
      } else high |= (byte & 0x7f) << (shift - 32);
      if (byte < 0x80) {
        this.low = low >>> 0;
        this.high = high >>> 0;
        return;
      }
    }
    this.fail('has a number of more than 10 bytes');
  }

  /** Reads an int32 (or an enum): the lower 32 bits of the varint, as every decoder takes them. */
  int32(end: number): number {
    this.varint(end);
    return this.low | 0;
  }

  /** Reads an int64. Beyond 2^53 it is not exact, but exceeds any limit all the same. */
  int64(end: number): number {
    this.varint(end);
    return (this.high | 0) * 0x1_0000_0000 + this.low;
  }

  /** Reads the length of a text. `at` stays where it begins. @returns where it ends. */
  text(end: number): number {
    const textEnd = this.length(end);
    if (!isText(this.buffer, this.at, textEnd)) throw invalidField(this.path(), 'is not valid UTF-8');
    return textEnd;
  }

  /** Skips an unknown field. The message's own fields have the numbers up to `knownMax`. */
  skipUnknown(tag: number, knownMax: number, end: number): void {
    const field = tag >>> 3;
    if (field === 0) this.fail('has a field with the number 0');
    if (field <= knownMax) this.fail(`has field ${field} with the wrong wire type ${tag & 7}`);
    this.skip(tag, end);
  }

  /** Skips the content behind the tag. */
  skip(tag: number, end: number): void {
    const wireType = tag & 7;
    if (wireType === varintType) this.varint(end);
    else if (wireType === fixed64Type) this.at += 8;
    else if (wireType === lengthType) this.at = this.length(end);
    else if (wireType === fixed32Type) this.at += 4;
    else this.fail(`has field ${tag >>> 3} with wire type ${wireType}, which is not supported`);
    if (this.at > end) this.fail(`ends within field ${tag >>> 3}`);
  }

  /** The path of the current field in the proto's names, e.g. `records[3].key`. */
  path(): string {
    if (this.record === -1) return this.field;
    return this.field === '' ? `records[${this.record}]` : `records[${this.record}].${this.field}`;
  }

  fail(description: string): never {
    const field = this.path();
    throw field === '' ? malformedRequest(`the request: ${description}`) : malformedRequest(description, field);
  }
}

function isText(buffer: Buffer, start: number, end: number): boolean {
  if (end - start > asciiLoopBytesMax) return isUtf8(buffer.subarray(start, end));
  for (let at = start; at < end; at += 1) {
    if (buffer[at]! > 0x7f) return isUtf8(buffer.subarray(at, end));
  }
  return true;
}
