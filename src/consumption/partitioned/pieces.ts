import type { OffsetRuns } from '../offsets/runs.ts';

/** Un-acked records that were delivered together: a run of offsets, its bytes, and its lease. */
interface Piece {
  readonly first: number;
  readonly last: number;
  readonly bytesOf: BytesOf;
  /** null without a lease: the member holds the records for as long as it holds the partition. */
  readonly leaseUntilMs: number | null;
}

/** Bytes of the records first … last of a piece. Those of two runs add up to those of both. */
export type BytesOf = (first: number, last: number) => number;

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

  get records(): number {
    return this.#records;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(first: number, last: number, bytesOf: BytesOf, leaseUntilMs: number | null): void {
    const piece = { first, last, bytesOf, leaseUntilMs };
    const at = this.#from(first);
    if (at === this.#pieces.length) this.#pieces.push(piece);
    else this.#pieces.splice(at, 0, piece);
    this.#records += last - first + 1;
    this.#bytes += bytesOf(first, last);
  }

  /** Removes the records of first … last that are here, and calls `each` with every run of them. */
  remove(first: number, last: number, each?: (first: number, last: number, bytesOf: BytesOf) => void): Freed {
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
      records += end - begin + 1;
      bytes += piece.bytesOf(begin, end);
      each?.(begin, end, piece.bytesOf);
      if (piece.first < begin) left.push({ ...piece, last: begin - 1 });
      if (end < piece.last) left.push({ ...piece, first: end + 1 });
    }
    if (until > from) this.#pieces.splice(from, until - from, ...left);
    this.#records -= records;
    this.#bytes -= bytes;
    return { records, bytes };
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
    return this.#pieces.filter(({ leaseUntilMs }) => leaseUntilMs !== null && leaseUntilMs <= nowMs);
  }

  /** When the first lease expires; null if no piece has one. */
  nextLeaseMs(): number | null {
    let next = Infinity;
    for (const { leaseUntilMs } of this.#pieces) if (leaseUntilMs !== null && leaseUntilMs < next) next = leaseUntilMs;
    return next === Infinity ? null : next;
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
