import type { OffsetRuns } from '../offsets/runs.ts';

/** Records that were delivered together and not acked: a run of offsets, its size, and until when. */
interface Piece {
  readonly first: number;
  readonly last: number;
  readonly bytesOf: BytesOf;
  /** null: as long as the partition is held. */
  readonly leaseUntilMs: number | null;
}

/** Bytes of the records first … last of a piece; additive. */
export type BytesOf = (first: number, last: number) => number;

/** What stopped being in flight. */
export interface Freed {
  readonly records: number;
  readonly bytes: number;
}

export const nothing: Freed = { records: 0, bytes: 0 };

/** Records that are out, as they were handed out: pieces in the order of their offsets, which do not overlap. */
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

  /** Takes first … last out, as far as it is here; `each` sees the runs that were. */
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

  /** The first piece that ends at or behind `offset`; undefined if there is none. */
  at(offset: number): { readonly first: number; readonly last: number } | undefined {
    return this.#pieces[this.#from(offset)];
  }

  /** What is here of the runs, ascending. */
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

  /** The runs whose lease is over. */
  expired(nowMs: number): { readonly first: number; readonly last: number }[] {
    return this.#pieces.filter(({ leaseUntilMs }) => leaseUntilMs !== null && leaseUntilMs <= nowMs);
  }

  /** When the first lease is over; null if there is none. */
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
