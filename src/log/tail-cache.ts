import { endOffset, type BatchCodec, type EncodedBatch, type LogAddress, type StoredBatch } from './batch.ts';

/** What was appended as one row: as it came until somebody reads it, then encoded. */
interface Entry {
  readonly baseOffset: number;
  endOffset: number;
  raw: StoredBatch | null;
  encoded: EncodedBatch | null;
  bytes: number;
}

interface TailCacheOptions {
  readonly codec: BatchCodec;
  readonly bytesMax: number;
  /** Neighbouring small batches are joined up to this size when somebody reads them who is behind. */
  readonly joinBytesMax: number;
}

/** The order of so many batches is kept before it is looked through for those that are gone. */
const sweepMin = 1_000;

/**
 * The newest batches of all logs, encoded once for every reader, up to a number of bytes in all; the oldest go first, of
 * whichever log they are.
 */
export class TailCache {
  readonly #o: TailCacheOptions;
  /** In the order of appending: which tail to make shorter, and up to where. */
  #order: { readonly tail: Tail; readonly endOffset: number }[] = [];
  #orderHead = 0;
  #sweepAt = sweepMin;
  #unencoded: Tail[] = [];
  #bytes = 0;
  readonly #tailParts: TailParts;

  constructor(options: TailCacheOptions) {
    this.#o = options;
    const { codec, joinBytesMax } = options;
    this.#tailParts = {
      codec,
      joinBytesMax,
      onBytes: (change) => {
        this.#bytes += change;
      },
    };
  }

  get bytes(): number {
    return this.#bytes;
  }

  tailOf(address: LogAddress): Tail {
    return new Tail(address, this.#tailParts);
  }

  /** Takes in what was committed to a log. */
  add(tail: Tail, batch: StoredBatch, count: number, bytes: number): void {
    tail.push(batch, count, bytes);
    this.#unencoded.push(tail);
    this.#order.push({ tail, endOffset: batch.baseOffset + count });
    if (this.#order.length >= this.#sweepAt) this.#sweep();
    this.#evict();
  }

  /**
   * Encodes what nobody has asked for yet. A batch as it came keeps the whole request alive, with the records that went to other
   * partitions; so it must not stay like that for long.
   */
  encodeAll(): void {
    const tails = this.#unencoded;
    this.#unencoded = [];
    for (const tail of tails) tail.encodeAll();
    this.#evict();
  }

  #evict(): void {
    while (this.#bytes > this.#o.bytesMax && this.#orderHead < this.#order.length) {
      const { tail, endOffset: until } = this.#order[this.#orderHead++]!;
      tail.dropBelow(until);
    }
  }

  /** Not all goes by eviction: tails that are cleared, as readers come and go, would leave their part of the order for ever. */
  #sweep(): void {
    this.#order = this.#order.slice(this.#orderHead).filter(({ tail, endOffset: until }) => tail.holdsBelow(until));
    this.#orderHead = 0;
    this.#sweepAt = Math.max(sweepMin, 2 * this.#order.length);
  }
}

/** What all tails of a cache share. */
interface TailParts {
  readonly codec: BatchCodec;
  readonly joinBytesMax: number;
  readonly onBytes: (change: number) => void;
}

/** The newest batches of one log: neighbours without a gap, the oldest first. */
export class Tail {
  readonly #address: LogAddress;
  readonly #parts: TailParts;
  #entries: Entry[] = [];
  #head = 0;
  /** Entries from this index on may not be encoded yet. */
  #rawFrom = 0;

  constructor(address: LogAddress, parts: TailParts) {
    this.#address = address;
    this.#parts = parts;
  }

  push(batch: StoredBatch, count: number, bytes: number): void {
    const last = this.#entries.at(-1);
    // Something was appended that is not here: what is older does not help a reader that goes on from it.
    if (last !== undefined && last.endOffset !== batch.baseOffset) this.clear();
    const { baseOffset } = batch;
    this.#entries.push({ baseOffset, endOffset: baseOffset + count, raw: batch, encoded: null, bytes });
    this.#parts.onBytes(bytes);
  }

  /** The batch that contains the offset; small neighbours behind it come with it. */
  find(offset: number): EncodedBatch | null {
    const index = this.#indexOf(offset);
    if (index < 0) return null;
    const entry = this.#entries[index]!;
    if (entry.baseOffset === offset && entry.bytes < this.#parts.joinBytesMax / 2) this.#joinFrom(index);
    return this.#encoded(this.#entries[index]!);
  }

  encodeAll(): void {
    for (let index = Math.max(this.#rawFrom, this.#head); index < this.#entries.length; index++) {
      this.#encoded(this.#entries[index]!);
    }
    this.#rawFrom = this.#entries.length;
  }

  /** Whether something below the offset is here. */
  holdsBelow(offset: number): boolean {
    const first = this.#entries[this.#head];
    return first !== undefined && first.baseOffset < offset;
  }

  dropBelow(offset: number): void {
    while (this.#head < this.#entries.length && this.#entries[this.#head]!.endOffset <= offset) {
      const entry = this.#entries[this.#head++]!;
      this.#parts.onBytes(-entry.bytes);
      // The entry may stay in the array for a while; what it holds is not counted any more.
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

  #indexOf(offset: number): number {
    let low = this.#head;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#entries[middle]!.endOffset <= offset) low = middle + 1;
      else high = middle;
    }
    const entry = this.#entries[low];
    return entry !== undefined && entry.baseOffset <= offset ? low : -1;
  }

  /** One message of many records costs a tenth of many messages of one; whoever joins them does it for all groups. */
  #joinFrom(index: number): void {
    let until = index + 1;
    let bytes = this.#entries[index]!.bytes;
    while (until < this.#entries.length && bytes + this.#entries[until]!.bytes <= this.#parts.joinBytesMax) {
      bytes += this.#entries[until]!.bytes;
      until++;
    }
    if (until === index + 1) return;
    const joined = this.#entries.slice(index, until);
    const encoded = joined.every(({ raw }) => raw !== null)
      ? this.#parts.codec.encode(
          this.#address,
          joined.map(({ raw }) => raw!),
        )
      : this.#parts.codec.join(joined.map((entry) => this.#encoded(entry)));
    const before = joined.reduce((sum, entry) => sum + entry.bytes, 0);
    this.#entries.splice(index, until - index, {
      baseOffset: encoded.baseOffset,
      endOffset: endOffset(encoded),
      raw: null,
      encoded,
      bytes: encoded.bytes.length,
    });
    this.#rawFrom = Math.min(this.#rawFrom, index);
    this.#parts.onBytes(encoded.bytes.length - before);
  }

  #encoded(entry: Entry): EncodedBatch {
    if (entry.encoded !== null) return entry.encoded;
    const encoded = this.#parts.codec.encode(this.#address, [entry.raw!]);
    this.#parts.onBytes(encoded.bytes.length - entry.bytes);
    entry.encoded = encoded;
    entry.raw = null;
    entry.bytes = encoded.bytes.length;
    return encoded;
  }
}
