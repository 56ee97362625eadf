import assert from 'node:assert/strict';
import { addRun, countOf, type OffsetRuns } from '../offsets/runs.ts';
import { nothing, Pieces, type Freed, type RecordSizes } from './pieces.ts';

/**
 * The records of one cursor that are in flight: held by the member that has the log (the holder),
 * or MOVING, while a settlement completes them. Calls of the holder affect only the held ones.
 */
export class InFlight {
  readonly #held = new Pieces();
  /** null until a record moves for the first time, because most cursors never need it. */
  #moving: Pieces | null = null;

  get records(): number {
    return this.#held.records + (this.#moving?.records ?? 0);
  }

  get bytes(): number {
    return this.#held.bytes + (this.#moving?.bytes ?? 0);
  }

  /** The lowest MOVING record; Infinity if there is none. */
  get lowestMoving(): number {
    return this.#moving?.at(0)?.first ?? Infinity;
  }

  /** The runs that were delivered together, as far as they are in flight. */
  get pieces(): number {
    return this.#held.count + (this.#moving?.count ?? 0);
  }

  /** What the sizes of their records take in memory. */
  get sizeBytes(): number {
    return this.#held.sizeBytes + (this.#moving?.sizeBytes ?? 0);
  }

  /** How many more pieces there are when the held records of the runs end, or move. */
  growthBy(runs: OffsetRuns): number {
    return this.#held.growthBy(runs);
  }

  add(first: number, last: number, sizes: RecordSizes, leaseUntilMs: number | null): void {
    this.#held.add(first, last, sizes, leaseUntilMs);
  }

  /** Removes the held records of first … last, and calls `each` with every run that it removes. */
  remove(
    first: number,
    last: number,
    each?: (removed: { readonly first: number; readonly last: number }) => void,
  ): Freed {
    return this.#held.remove(first, last, each);
  }

  /** The first run in flight that ends at or behind `offset`, if there is one. */
  at(offset: number): { readonly first: number; readonly last: number } | undefined {
    const held = this.#held.at(offset);
    const moving = this.#moving?.at(offset);
    return moving !== undefined && (held === undefined || moving.first < held.first) ? moving : held;
  }

  /** The held records of the runs, ascending. */
  among(runs: OffsetRuns): { readonly first: number; readonly last: number }[] {
    return this.#held.among(runs);
  }

  anyMoving(first: number, last: number): boolean {
    return (this.#moving?.at(first)?.first ?? Infinity) <= last;
  }

  /** The held runs whose lease has expired. */
  expired(nowMs: number): { readonly first: number; readonly last: number }[] {
    return this.#held.expired(nowMs);
  }

  /** When the first lease of a held run expires; null if none has a lease. */
  nextLeaseMs(): number | null {
    return this.#held.nextLeaseMs();
  }

  holdsAll(runs: OffsetRuns): boolean {
    return isAll(runs, this.#held.among(runs));
  }

  /** Makes the runs MOVING, all of which must be held. Their leases no longer expire. */
  move(runs: OffsetRuns): void {
    assert(this.holdsAll(runs), 'only records that the holder has can move');
    const moving = (this.#moving ??= new Pieces());
    for (let at = 0; at < runs.length; at += 2) {
      this.#held.remove(runs[at]!, runs[at + 1]!, (piece) => {
        moving.put(piece);
      });
    }
  }

  /** Takes the runs out of flight, all of which must be MOVING. */
  endMove(runs: OffsetRuns): Freed {
    const moving = this.#moving;
    assert(moving !== null && isAll(runs, moving.among(runs)), 'only records that move can end their move');
    let { records, bytes } = nothing;
    for (let at = 0; at < runs.length; at += 2) {
      const freed = moving.remove(runs[at]!, runs[at + 1]!);
      records += freed.records;
      bytes += freed.bytes;
    }
    return { records, bytes };
  }
}

function isAll(runs: OffsetRuns, found: readonly { readonly first: number; readonly last: number }[]): boolean {
  const all: number[] = [];
  for (const { first, last } of found) addRun(all, first, last);
  return runs.length > 0 && countOf(all) === countOf(runs);
}
