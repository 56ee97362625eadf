import { present } from '../../errors/present.ts';
import type { OffsetRuns } from '../offsets/runs.ts';

/** Un-acked records that were delivered together: a run of offsets, and its bytes. */
interface Piece {
  readonly first: number;
  readonly last: number;
  readonly bytes: number;
  readonly delivery: Delivery;
}

/** What the pieces of one delivery share. */
interface Delivery {
  /** null for a single record, whose piece is never divided. */
  readonly sizes: RecordSizes | null;
  /** null without a lease: the member holds the records for as long as it holds the partition. */
  readonly leaseUntilMs: number | null;
  /** The pieces that are left of it. */
  pieces: number;
}

/** The sizes of the records of a batch, without the records themselves. */
export interface RecordSizes {
  /** What the sizes take in memory until the last record of their delivery is done. */
  readonly keptBytes: number;
  /** Bytes of the records first … last. Those of two runs add up to those of both. */
  bytesOf(first: number, last: number): number;
}

/** The records and bytes that an input took out of flight. */
export interface Freed {
  readonly records: number;
  readonly bytes: number;
}

export const nothing: Freed = { records: 0, bytes: 0 };

/** Records in flight, in the pieces of their delivery. Pieces are ascending and do not overlap. */
export class Pieces {
  #pieces: Piece[] = [];
  #records = 0;
  #bytes = 0;
  #sizeBytes = 0;

  get count(): number {
    return this.#pieces.length;
  }

  /**
   * What the sizes of the records take in memory. Those of a delivery with pieces in two lists
   * count in that of its first piece, and come back in that of its last one: add up both lists.
   */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get records(): number {
    return this.#records;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(first: number, last: number, sizes: RecordSizes, leaseUntilMs: number | null): void {
    const delivery = { sizes: first === last ? null : sizes, leaseUntilMs, pieces: 0 };
    this.put({ first, last, bytes: sizes.bytesOf(first, last), delivery });
  }

  put(piece: Piece): void {
    const { first, last, bytes, delivery } = piece;
    const at = this.#from(first);
    if (at === this.#pieces.length) this.#pieces.push(piece);
    else this.#pieces.splice(at, 0, piece);
    this.#records += last - first + 1;
    this.#bytes += bytes;
    if (delivery.pieces === 0) this.#sizeBytes += delivery.sizes?.keptBytes ?? 0;
    delivery.pieces += 1;
  }

  /** Removes the records of first … last that are here. Calls `each` with every piece of them. */
  remove(first: number, last: number, each?: (removed: Piece) => void): Freed {
    if (this.#pieces.length === 0) return nothing;
    const from = this.#from(first);
    const left: Piece[] = [];
    let until = from;
    let records = 0;
    let bytes = 0;
    for (; until < this.#pieces.length && this.#pieces[until]!.first <= last; until++) {
      const piece = this.#pieces[until]!;
      const begin = Math.max(piece.first, first);
      const end = Math.min(piece.last, last);
      const removed = partOf(piece, begin, end);
      records += end - begin + 1;
      bytes += removed.bytes;
      if (piece.first < begin) left.push(partOf(piece, piece.first, begin - 1));
      if (end < piece.last) left.push(partOf(piece, end + 1, piece.last));
      each?.(removed);
      this.#divided(piece, begin, end);
    }
    if (until > from) this.#pieces.splice(from, until - from, ...left);
    this.#records -= records;
    this.#bytes -= bytes;
    return { records, bytes };
  }

  /** How many more pieces there are when the records of the runs are removed; negative: fewer. */
  growthBy(runs: OffsetRuns): number {
    let growth = 0;
    let divided: Piece | null = null;
    for (let at = 0; at < runs.length; at += 2) {
      const [first, last] = [runs[at]!, runs[at + 1]!];
      for (let index = this.#from(first); index < this.#pieces.length && this.#pieces[index]!.first <= last; index++) {
        const piece = this.#pieces[index]!;
        // The part behind the last run of the same piece is what this run divides or removes.
        const begin = piece === divided ? runs[at - 1]! + 1 : piece.first;
        growth += (begin < first ? 1 : 0) + (last < piece.last ? 1 : 0) - 1;
        divided = piece;
      }
    }
    return growth;
  }

  /** The first piece that ends at or behind `offset`, if there is one. */
  at(offset: number): { readonly first: number; readonly last: number } | undefined {
    return this.#pieces[this.#from(offset)];
  }

  /** The records of the runs that are here, ascending. */
  among(runs: OffsetRuns): { readonly first: number; readonly last: number }[] {
    const found: { first: number; last: number }[] = [];
    for (let at = 0; at < runs.length; at += 2) {
      const last = runs[at + 1]!;
      for (
        let index = this.#from(runs[at]!);
        index < this.#pieces.length && this.#pieces[index]!.first <= last;
        index++
      ) {
        const piece = this.#pieces[index]!;
        found.push({ first: Math.max(piece.first, runs[at]!), last: Math.min(piece.last, last) });
      }
    }
    return found;
  }

  /** The pieces whose lease has expired. */
  expired(nowMs: number): { readonly first: number; readonly last: number }[] {
    return this.#pieces.filter(({ delivery: { leaseUntilMs } }) => leaseUntilMs !== null && leaseUntilMs <= nowMs);
  }

  /** When the first lease expires; null if no piece has one. */
  nextLeaseMs(): number | null {
    let next = Infinity;
    for (const { delivery } of this.#pieces) next = Math.min(next, delivery.leaseUntilMs ?? Infinity);
    return next === Infinity ? null : next;
  }

  /** Counts the parts that are left of a piece when its records begin … end are removed. */
  #divided({ first, last, delivery }: Piece, begin: number, end: number): void {
    delivery.pieces += (first < begin ? 1 : 0) + (end < last ? 1 : 0) - 1;
    if (delivery.pieces === 0) this.#sizeBytes -= delivery.sizes?.keptBytes ?? 0;
  }

  #from(offset: number): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#pieces[middle]!.last < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function partOf(piece: Piece, first: number, last: number): Piece {
  if (first === piece.first && last === piece.last) return piece;
  const { delivery } = piece;
  const sizes = present(delivery.sizes, 'only a single record has no sizes');
  return { first, last, bytes: sizes.bytesOf(first, last), delivery };
}
