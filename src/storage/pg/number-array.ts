import type { BinaryValue } from './parameter.ts';

/**
 * Arrays in PostgreSQL's binary format, one element for each item. Thousands of numbers as text
 * cost five times as much, because the broker formats them and the server parses them.
 *
 * The format is the one in bytea-array.ts.
 */
const headerBytes = 20;
/** An empty array has no dimension, so its header ends before the size and the lower bound. */
const emptyArrayBytes = 12;
const integerOid = 23;
const bigintOid = 20;
const textOid = 25;
/** The length of an element that is null. */
const nullLength = -1;

export function integerArray<T>(items: readonly T[], valueOf: (item: T) => number): BinaryValue {
  return {
    byteLength: arrayBytes(items.length, 4),
    writeTo(buffer, at) {
      let to = writeHeader(buffer, at, integerOid, items.length);
      for (const item of items) {
        to = buffer.writeInt32BE(4, to);
        to = buffer.writeInt32BE(valueOf(item), to);
      }
    },
  };
}

/** The numbers are from -(2^53 - 1) to 2^53 - 1. */
export function bigintArray<T>(items: readonly T[], valueOf: (item: T) => number): BinaryValue {
  return {
    byteLength: arrayBytes(items.length, 8),
    writeTo(buffer, at) {
      let to = writeHeader(buffer, at, bigintOid, items.length);
      for (const item of items) {
        const value = valueOf(item);
        to = buffer.writeInt32BE(8, to);
        const high = Math.floor(value / 0x1_0000_0000);
        to = buffer.writeInt32BE(high, to);
        to = buffer.writeUInt32BE(value - high * 0x1_0000_0000, to);
      }
    },
  };
}

/** A null text becomes a null element. */
export function textArray(texts: readonly (string | null)[]): BinaryValue {
  const bytes = texts.reduce((sum, text) => sum + (text === null ? 0 : Buffer.byteLength(text)), 0);
  return {
    byteLength: arrayBytes(texts.length, 0) + bytes,
    writeTo(buffer, at) {
      let to = writeHeader(buffer, at, textOid, texts.length);
      for (const text of texts) {
        const written = text === null ? 0 : buffer.write(text, to + 4);
        to = buffer.writeInt32BE(text === null ? nullLength : written, to) + written;
      }
    },
  };
}

function arrayBytes(count: number, elementBytes: number): number {
  return count === 0 ? emptyArrayBytes : headerBytes + count * (4 + elementBytes);
}

/** @returns where the elements begin. */
function writeHeader(buffer: Buffer, at: number, oid: number, count: number): number {
  buffer.writeInt32BE(count === 0 ? 0 : 1, at);
  buffer.writeInt32BE(0, at + 4);
  buffer.writeInt32BE(oid, at + 8);
  if (count === 0) return at + emptyArrayBytes;
  buffer.writeInt32BE(count, at + 12);
  buffer.writeInt32BE(1, at + 16);
  return at + headerBytes;
}
