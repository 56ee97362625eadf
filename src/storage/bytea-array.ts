import { boundsPerRecord, type RecordSelection } from '../log/batch.ts';

/**
 * `bytea[]` in PostgreSQL's binary format, written from slices and read as slices: as text it would cost twice the bytes, and
 * parsing it runs at 20 MB/s.
 *
 * The format: dimensions (1, or 0 for an empty array), a flag for nulls, the element's type, the size and the lower
 * bound of the dimension, then for each element its length and its bytes; all numbers are 32 bits, big endian.
 */
const headerBytes = 20;
/** An array without elements has no dimension, and so neither its size nor its lower bound. */
const emptyArrayBytes = 12;
const byteaOid = 17;

/** Where the parts of a record stand in `RecordSet.bounds`. */
export type RecordPart = 0 | 1 | 2 | 3;
export const recordParts = { keys: 0, headers: 1, values: 2, rests: 3 } as const satisfies Record<string, RecordPart>;

/** One part of all records as a `bytea[]`; null if no record has it (`values` is never null). */
export function encodePart(records: readonly RecordSelection[], part: RecordPart, count: number): Buffer | null {
  const at = part * 2;
  let size = headerBytes + 4 * count;
  let bytes = 0;
  for (const { set, indexes } of records) {
    const { bounds } = set;
    for (let i = 0; i < indexes.length; i++) {
      const bound = indexes[i]! * boundsPerRecord + at;
      bytes += bounds[bound + 1]! - bounds[bound]!;
    }
  }
  if (bytes === 0 && part !== recordParts.values) return null;
  size += bytes;
  const array = Buffer.allocUnsafe(size);
  writeHeader(array, count);
  let to = headerBytes;
  for (const { set, indexes } of records) {
    const { bounds, buffer } = set;
    for (let i = 0; i < indexes.length; i++) {
      const bound = indexes[i]! * boundsPerRecord + at;
      const start = bounds[bound]!;
      const end = bounds[bound + 1]!;
      array.writeInt32BE(end - start, to);
      to += 4;
      // A call of `copy` costs more than a few bytes do.
      if (end - start > 16) buffer.copy(array, to, start, end);
      else for (let from = start, into = to; from < end;) array[into++] = buffer[from++]!;
      to += end - start;
    }
  }
  return count === 0 ? array.subarray(0, emptyArrayBytes) : array;
}

/** A `bytea[]` of whole buffers. */
export function encodeByteaArray(elements: readonly Buffer[]): Buffer {
  const size = elements.reduce((sum, element) => sum + 4 + element.length, headerBytes);
  const array = Buffer.allocUnsafe(size);
  writeHeader(array, elements.length);
  let to = headerBytes;
  for (const element of elements) {
    to = array.writeInt32BE(element.length, to);
    to += element.copy(array, to);
  }
  return elements.length === 0 ? array.subarray(0, emptyArrayBytes) : array;
}

/**
 * Notes in `bounds` where the elements of the `bytea[]` at `at` lie, as one part of records from number 0 on.
 *
 * @throws Error if it is not a one-dimensional array of `count` elements without nulls.
 */
export function decodePart(buffer: Buffer, at: number, part: RecordPart, count: number, bounds: Int32Array): void {
  if (buffer.readInt32BE(at) !== 1 || buffer.readInt32BE(at + 12) !== count) {
    throw new Error(`a stored batch of ${count} records has an array of another shape`);
  }
  let from = at + headerBytes;
  for (let record = 0; record < count; record++) {
    const length = buffer.readInt32BE(from);
    if (length < 0) throw new Error('a stored record has a part that is null');
    const bound = record * boundsPerRecord + part * 2;
    bounds[bound] = from + 4;
    bounds[bound + 1] = from + 4 + length;
    from += 4 + length;
  }
}

function writeHeader(array: Buffer, count: number): void {
  array.writeInt32BE(count === 0 ? 0 : 1, 0);
  array.writeInt32BE(0, 4);
  array.writeInt32BE(byteaOid, 8);
  array.writeInt32BE(count, 12);
  array.writeInt32BE(1, 16);
}
