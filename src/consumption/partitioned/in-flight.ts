import assert from 'node:assert/strict';
import { addRun, countOf, type OffsetRuns } from '../offsets/runs.ts';
import { nothing, Pieces, type BytesOf, type Freed } from './pieces.ts';

/** A run of records in flight. */
export interface Held {
  readonly first: number;
  readonly last: number;
}

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

  add(first: number, last: number, bytesOf: BytesOf, leaseUntilMs: number | null): void {
    this.#held.add(first, last, bytesOf, leaseUntilMs);
  }

  /** Removes the held records of first … last, and calls `each` with every run that it removes. */
  remove(first: number, last: number, each?: (first: number, last: number) => void): Freed {
    return this.#held.remove(first, last, each);
  }

  /** The first run in flight that ends at or behind `offset`, if there is one. */
  at(offset: number): Held | undefined {
    const held = this.#held.at(offset);
    const moving = this.#moving?.at(offset);
    return moving !== undefined && (held === undefined || moving.first < held.first) ? moving : held;
  }

  /** The held records of the runs, ascending. */
  among(runs: OffsetRuns): Held[] {
    return this.#held.among(runs);
  }

  anyMoving(first: number, last: number): boolean {
    return (this.#moving?.at(first)?.first ?? Infinity) <= last;
  }

  /** The held runs whose lease has expired. */
  expired(nowMs: number): readonly Held[] {
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
      this.#held.remove(runs[at]!, runs[at + 1]!, (first, last, bytesOf) => {
        moving.add(first, last, bytesOf, null);
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

function isAll(runs: OffsetRuns, found: readonly Held[]): boolean {
  const all: number[] = [];
  for (const { first, last } of found) addRun(all, first, last);
  return runs.length > 0 && countOf(all) === countOf(runs);
}
