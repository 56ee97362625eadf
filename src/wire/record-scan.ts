import { invalidField } from '../errors/rejections/requests.ts';
import { limits } from '../limits/limits.ts';
import { boundsPerRecord } from '../log/batch.ts';
import type { RequestReader } from './request-reader.ts';
import { varintBytes, writeVarint } from './varint.ts';

/** Tags of Record and of the entries of its `headers`. */
const keyTag = 0x0a;
const valueTag = 0x12;
const headersTag = 0x1a;
const idempotencyKeyTag = 0x22;
const recordFieldMax = 4;
const entryKeyTag = 0x0a;
const entryValueTag = 0x12;
const entryFieldMax = 2;

/** The indexes of a record's parts in its eight bounds. */
const keyPart = 0;
const headersPart = 2;
const valuePart = 4;
const restPart = 6;

/**
 * A header entry's fields in order, two bits each: 1 key, 2 value, 3 unknown. Here: a key, then a
 * value.
 */
const canonicalShape = 0b0110;
/**
 * An entry takes at most a tag and two lengths more than its name and value (lengths up to 3
 * bytes).
 */
const entryFrameBytesMax = 12;

/**
 * The bounds of all records of the current request. A scan never yields, so there is only one at a
 * time.
 */
const bounds = new Int32Array(limits.publishRecordsMax * boundsPerRecord);

/**
 * Finds the parts of each record. Parts in the usual form are used in place. Headers in another
 * form, and an idempotency key with an unusual length prefix, are rewritten into `extras`, which
 * belong behind the request's own bytes.
 */
export class RecordScan {
  readonly extras: Buffer[] = [];
  count = 0;
  private readonly reader: RequestReader;
  private readonly recordBytesMax: number;
  private extraEnd: number;
  /** Idempotency keys up to the last record that has one. */
  private keys: (string | null)[] | null = null;

  // The current record: its headers read so far.
  private headerCount = 0;
  private headerBytes = 0;
  private headersCanonical = true;
  // The current header entry.
  private entryShape = 0;
  private nameStart = 0;
  private nameEnd = 0;
  private textStart = 0;
  private textEnd = 0;

  constructor(reader: RequestReader, recordBytesMax: number) {
    this.reader = reader;
    this.recordBytesMax = recordBytesMax;
    this.extraEnd = reader.buffer.length;
  }

  /** The bounds of all scanned records. */
  bounds(): Int32Array {
    return bounds.slice(0, this.count * boundsPerRecord);
  }

  /** Per record its idempotency key, null for none; null if no record has one. */
  idempotencyKeys(): (string | null)[] | null {
    return this.keys === null ? null : this.padKeys(this.keys);
  }

  private padKeys(keys: (string | null)[]): (string | null)[] {
    while (keys.length < this.count) keys.push(null);
    return keys;
  }

  /** Scans the record that begins at the reader's position. */
  record(end: number): void {
    const { reader } = this;
    const start = reader.at;
    const base = this.count * boundsPerRecord;
    this.begin(base);
    while (reader.at < end) {
      const fieldStart = reader.at;
      const tag = reader.tag(end);
      if (tag === keyTag) {
        reader.field = 'key';
        this.note(base + keyPart, reader.text(end));
      } else if (tag === valueTag) {
        reader.field = 'value';
        this.note(base + valuePart, reader.length(end));
      } else if (tag === headersTag) {
        reader.field = 'headers';
        this.header(base, fieldStart, end);
      } else if (tag === idempotencyKeyTag) {
        reader.field = 'idempotency_key';
        this.note(base + restPart, reader.text(end));
      } else reader.skipUnknown(tag, recordFieldMax, end);
    }
    this.checkLimits(base);
    if (!this.headersCanonical) this.joinHeaders(base, start, end);
    if (bounds[base + restPart] !== 0) this.takeIdempotencyKey(base);
    this.count += 1;
  }

  private begin(base: number): void {
    bounds.fill(0, base, base + boundsPerRecord);
    this.headerCount = 0;
    this.headerBytes = 0;
    this.headersCanonical = true;
  }

  /**
   * Notes the bounds of a part and skips it. The last occurrence wins, so an empty one clears an
   * earlier one.
   */
  private note(part: number, end: number): void {
    const start = this.reader.at;
    const empty = start === end;
    bounds[part] = empty ? 0 : start;
    bounds[part + 1] = empty ? 0 : end;
    this.reader.at = end;
  }

  private header(base: number, fieldStart: number, end: number): void {
    const { reader } = this;
    const entryEnd = reader.length(end);
    const entryStart = reader.at;
    this.entry(entryEnd);
    const nameBytes = this.nameEnd - this.nameStart;
    const textBytes = this.textEnd - this.textStart;
    const entryBytes = entryContentBytes(nameBytes, textBytes);
    const exact = entryEnd - entryStart === entryBytes && entryStart - fieldStart === 1 + varintBytes(entryBytes);
    if (!exact || this.entryShape !== canonicalShape) this.headersCanonical = false;
    if (this.headerCount === 0) bounds[base + headersPart] = fieldStart;
    else if (bounds[base + headersPart + 1] !== fieldStart) this.headersCanonical = false;
    bounds[base + headersPart + 1] = entryEnd;
    this.headerCount += 1;
    this.headerBytes += nameBytes + textBytes;
  }

  /** Reads the entry that begins at the reader's position. A missing name or value is empty. */
  private entry(end: number): void {
    const { reader } = this;
    this.entryShape = 0;
    this.nameStart = this.nameEnd = this.textStart = this.textEnd = reader.at;
    while (reader.at < end) {
      const tag = reader.tag(end);
      reader.field = 'headers';
      if (tag === entryKeyTag) {
        this.nameEnd = reader.text(end);
        this.nameStart = reader.at;
        reader.at = this.nameEnd;
        this.entryShape = (this.entryShape << 2) | 1;
      } else if (tag === entryValueTag) {
        this.textEnd = reader.text(end);
        this.textStart = reader.at;
        reader.at = this.textEnd;
        this.entryShape = (this.entryShape << 2) | 2;
      } else {
        reader.skipUnknown(tag, entryFieldMax, end);
        this.entryShape = (this.entryShape << 2) | 3;
      }
    }
  }

  private checkLimits(base: number): void {
    const { reader } = this;
    const keyBytes = bounds[base + keyPart + 1]! - bounds[base + keyPart]!;
    const valueBytes = bounds[base + valuePart + 1]! - bounds[base + valuePart]!;
    const idempotencyKeyBytes = bounds[base + restPart + 1]! - bounds[base + restPart]!;
    const recordBytes = keyBytes + valueBytes + idempotencyKeyBytes + this.headerBytes;
    reader.field = 'key';
    this.atMost(keyBytes, 'bytes', 'record_key_bytes_max', limits.recordKeyBytesMax);
    reader.field = 'headers';
    this.atMost(this.headerCount, 'entries', 'record_headers_max', limits.recordHeadersMax);
    this.atMost(this.headerBytes, 'bytes', 'record_header_bytes_max', limits.recordHeaderBytesMax);
    reader.field = 'idempotency_key';
    this.atMost(idempotencyKeyBytes, 'bytes', 'idempotency_key_bytes_max', limits.idempotencyKeyBytesMax);
    reader.field = '';
    this.atMost(recordBytes, 'bytes', 'record_bytes_max', this.recordBytesMax);
  }

  private atMost(actual: number, unit: string, limitName: string, limit: number): void {
    if (actual <= limit) return;
    throw invalidField(this.reader.path(), `has ${actual} ${unit}, more than ${limitName} = ${limit}`);
  }

  /** Scans the record a second time and writes its headers as one run. Few clients cause this. */
  private joinHeaders(base: number, start: number, end: number): void {
    const { reader } = this;
    const joined = Buffer.allocUnsafe(this.headerBytes + this.headerCount * entryFrameBytesMax);
    let at = 0;
    reader.at = start;
    while (reader.at < end) {
      const tag = reader.tag(end);
      if (tag === headersTag) {
        this.entry(reader.length(end));
        at = this.writeEntry(joined, at);
      } else if (tag >>> 3 <= recordFieldMax) reader.at = reader.length(end);
      else reader.skipUnknown(tag, recordFieldMax, end);
    }
    this.append(base + headersPart, joined.subarray(0, at));
  }

  private writeEntry(target: Buffer, start: number): number {
    const nameBytes = this.nameEnd - this.nameStart;
    const textBytes = this.textEnd - this.textStart;
    let at = start;
    target[at++] = headersTag;
    at = writeVarint(target, at, entryContentBytes(nameBytes, textBytes));
    target[at++] = entryKeyTag;
    at = writeVarint(target, at, nameBytes);
    at += this.reader.buffer.copy(target, at, this.nameStart, this.nameEnd);
    target[at++] = entryValueTag;
    at = writeVarint(target, at, textBytes);
    return at + this.reader.buffer.copy(target, at, this.textStart, this.textEnd);
  }

  /**
   * Keeps the idempotency key as text, and widens its bounds to the whole field, the record's
   * `rest`.
   */
  private takeIdempotencyKey(base: number): void {
    const { buffer } = this.reader;
    const start = bounds[base + restPart]!;
    const end = bounds[base + restPart + 1]!;
    const fieldStart = start - 1 - varintBytes(end - start);
    this.padKeys((this.keys ??= [])).push(buffer.toString('utf8', start, end));
    if (isFramed(buffer, fieldStart, end - start)) {
      bounds[base + restPart] = fieldStart;
      return;
    }
    const field = Buffer.allocUnsafe(1 + varintBytes(end - start) + end - start);
    field[0] = idempotencyKeyTag;
    buffer.copy(field, writeVarint(field, 1, end - start), start, end);
    this.append(base + restPart, field);
  }

  private append(part: number, bytes: Buffer): void {
    this.extras.push(bytes);
    bounds[part] = this.extraEnd;
    this.extraEnd += bytes.length;
    bounds[part + 1] = this.extraEnd;
  }
}

/** Bytes of a header entry behind its own length. */
function entryContentBytes(nameBytes: number, textBytes: number): number {
  return 2 + varintBytes(nameBytes) + nameBytes + varintBytes(textBytes) + textBytes;
}

/** Whether the idempotency key has its tag and the shortest form of its length in front. */
function isFramed(buffer: Buffer, fieldStart: number, keyBytes: number): boolean {
  if (buffer[fieldStart] !== idempotencyKeyTag) return false;
  if (keyBytes < 0x80) return buffer[fieldStart + 1] === keyBytes;
  return buffer[fieldStart + 1] === ((keyBytes & 0x7f) | 0x80) && buffer[fieldStart + 2] === keyBytes >>> 7;
}
