import type { Account } from '../account/account.ts';
import {
  batchBytes,
  endOffset,
  type BatchCodec,
  type EncodedBatch,
  type LogAddress,
  type StoredBatch,
} from './batch.ts';
import { CacheRoom } from './cache-room.ts';
import { present } from '../errors/present.ts';

/** One appended row: raw until its first encoding, then encoded. */
interface Entry {
  readonly baseOffset: number;
  endOffset: number;
  raw: StoredBatch | null;
  encoded: EncodedBatch | null;
  bytes: number;
  /** What the account counts for it. */
  countedBytes: number;
}

interface TailCacheOptions {
  readonly codec: BatchCodec;
  /** Counts the batches of all logs together, and has the limit. */
  readonly account: Account;
  /** A reader that is behind gets adjacent small batches joined, up to this size. */
  readonly joinBytesMax: number;
}

/** The list of batches in append order is not swept below this length. */
const sweepMin = 1_000;

/**
 * The newest batches of all logs, each encoded once for all readers. One limit bounds the bytes of
 * all logs together, and the oldest batch of all is evicted first.
 */
export class TailCache {
  readonly #room: CacheRoom;
  /** The tails to shorten, in append order, each with the end of the batch to evict. */
  #order: { readonly tail: Tail; readonly endOffset: number }[] = [];
  #orderHead = 0;
  #sweepAt = sweepMin;
  #unencoded: Tail[] = [];
  readonly #tailParts: TailParts;

  constructor({ account, codec, joinBytesMax }: TailCacheOptions) {
    this.#room = new CacheRoom(account, 'tail', () => this.#evictOldest());
    this.#tailParts = { codec, joinBytesMax, room: this.#room };
  }

  get bytes(): number {
    return this.#room.bytes;
  }

  tailOf(address: LogAddress): Tail {
    return new Tail(address, this.#tailParts);
  }

  /** Adds a committed batch to its log. */
  add(tail: Tail, batch: StoredBatch, count: number, bytes: number): void {
    tail.push(batch, count, bytes);
    this.#unencoded.push(tail);
    this.#order.push({ tail, endOffset: batch.baseOffset + count });
    if (this.#order.length >= this.#sweepAt) this.#sweep();
    this.#room.trim();
  }

  /**
   * Encodes all raw batches. A raw batch is short-lived, because its slices keep the whole request
   * in memory, with the records that went to other partitions.
   */
  encodeAll(): void {
    const tails = this.#unencoded;
    this.#unencoded = [];
    for (const tail of tails) tail.encodeAll();
    this.#room.trim();
  }

  #evictOldest(): boolean {
    if (this.#orderHead >= this.#order.length) return false;
    const { tail, endOffset: until } = present(this.#order[this.#orderHead++], 'the head of the order is within it');
    tail.dropBelow(until);
    return true;
  }

  /**
   * Drops the entries of cleared tails from the list, which would otherwise grow as readers come
   * and go.
   */
  #sweep(): void {
    this.#order = this.#order.slice(this.#orderHead).filter(({ tail, endOffset: until }) => tail.holdsBelow(until));
    this.#orderHead = 0;
    this.#sweepAt = Math.max(sweepMin, 2 * this.#order.length);
  }
}

/** Shared by all tails of a cache. */
interface TailParts {
  readonly codec: BatchCodec;
  readonly joinBytesMax: number;
  readonly room: CacheRoom;
}

const unencoded = 'an entry that is not encoded has its raw batch';

/** The newest batches of one log without a gap, oldest first. */
export class Tail {
  readonly #address: LogAddress;
  readonly #parts: TailParts;
  #entries: Entry[] = [];
  #head = 0;
  /** All entries before this index are encoded. */
  #rawFrom = 0;

  constructor(address: LogAddress, parts: TailParts) {
    this.#address = address;
    this.#parts = parts;
  }

  push(batch: StoredBatch, count: number, bytes: number): void {
    const last = this.#entries.at(-1);
    // A batch is missing between them, so the older ones no longer help a reader that reads on.
    if (last !== undefined && last.endOffset !== batch.baseOffset) this.clear();
    const { baseOffset } = batch;
    const end = baseOffset + count;
    this.#entries.push({ baseOffset, endOffset: end, raw: batch, encoded: null, bytes, countedBytes: bytes });
    this.#parts.room.add(1, bytes);
  }

  /**
   * The batch that contains the offset; null if it is not cached. A small batch is joined with
   * those behind it.
   */
  find(offset: number): EncodedBatch | null {
    const index = this.#indexOf(offset);
    if (index < 0) return null;
    const entry = this.#at(index);
    if (entry.baseOffset === offset && entry.bytes < this.#parts.joinBytesMax / 2) this.#joinFrom(index);
    return this.#encoded(this.#at(index));
  }

  encodeAll(): void {
    for (let index = Math.max(this.#rawFrom, this.#head); index < this.#entries.length; index++) {
      this.#encoded(this.#at(index));
    }
    this.#rawFrom = this.#entries.length;
  }

  /** Whether the tail has a record below the offset. */
  holdsBelow(offset: number): boolean {
    const first = this.#entries[this.#head];
    return first !== undefined && first.baseOffset < offset;
  }

  dropBelow(offset: number): void {
    while (this.#head < this.#entries.length && this.#at(this.#head).endOffset <= offset) {
      const entry = this.#at(this.#head++);
      this.#parts.room.add(-1, -entry.countedBytes);
      // The entry stays in the array for a while, but its bytes no longer count and must be freed.
      entry.raw = null;
      entry.encoded = null;
    }
    if (this.#head > 100 && this.#head * 2 > this.#entries.length) this.#compact();
  }

  clear(): void {
    this.dropBelow(Infinity);
    this.#compact();
  }

  #compact(): void {
    this.#entries = this.#entries.slice(this.#head);
    this.#rawFrom = Math.max(0, this.#rawFrom - this.#head);
    this.#head = 0;
  }

  #at(index: number): Entry {
    return present(this.#entries[index], 'an index of the tail is within its entries');
  }

  #indexOf(offset: number): number {
    let low = this.#head;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#at(middle).endOffset <= offset) low = middle + 1;
      else high = middle;
    }
    const entry = this.#entries[low];
    return entry !== undefined && entry.baseOffset <= offset ? low : -1;
  }

  /**
   * Joins small batches for all groups, because one large message costs a tenth of many small ones.
   */
  #joinFrom(index: number): void {
    let until = index + 1;
    let bytes = this.#at(index).bytes;
    while (until < this.#entries.length && bytes + this.#at(until).bytes <= this.#parts.joinBytesMax) {
      bytes += this.#at(until).bytes;
      until++;
    }
    if (until === index + 1) return;
    const joined = this.#entries.slice(index, until);
    const encoded = joined.every(({ raw }) => raw !== null)
      ? this.#parts.codec.encode(
          this.#address,
          joined.map(({ raw }) => present(raw, unencoded)),
        )
      : this.#parts.codec.join(joined.map((entry) => this.#encoded(entry)));
    const before = joined.reduce((sum, entry) => sum + entry.countedBytes, 0);
    const countedBytes = batchBytes(encoded);
    this.#entries.splice(index, until - index, {
      baseOffset: encoded.baseOffset,
      endOffset: endOffset(encoded),
      raw: null,
      encoded,
      bytes: encoded.bytes.length,
      countedBytes,
    });
    this.#rawFrom = Math.min(this.#rawFrom, index);
    this.#parts.room.add(1 - joined.length, countedBytes - before);
  }

  #encoded(entry: Entry): EncodedBatch {
    if (entry.encoded !== null) return entry.encoded;
    const encoded = this.#parts.codec.encode(this.#address, [present(entry.raw, unencoded)]);
    this.#parts.room.add(0, batchBytes(encoded) - entry.countedBytes);
    entry.encoded = encoded;
    entry.raw = null;
    entry.bytes = encoded.bytes.length;
    entry.countedBytes = batchBytes(encoded);
    return encoded;
  }
}
