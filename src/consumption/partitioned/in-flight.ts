import assert from 'node:assert/strict';
import { addRun, countOf, type OffsetRuns } from '../offsets/runs.ts';
import { nothing, Pieces, type BytesOf, type Freed } from './pieces.ts';

/**
 * What is out of one cursor: held by the member that has the log, or MOVING, which a settlement is completing.
 * Both count as in flight; whatever the holder does concerns what it holds alone.
 */
export class InFlight {
  readonly #held = new Pieces();
  /** null until something moves for the first time: of most cursors nothing ever does. */
  #moving: Pieces | null = null;

  get records(): number {
    return this.#held.records + (this.#moving?.records ?? 0);
  }

  get bytes(): number {
    return this.#held.bytes + (this.#moving?.bytes ?? 0);
  }

  /** The lowest MOVING record; Infinity: none. */
  get lowestMoving(): number {
    return this.#moving?.at(0)?.first ?? Infinity;
  }

  add(first: number, last: number, bytesOf: BytesOf, leaseUntilMs: number | null): void {
    this.#held.add(first, last, bytesOf, leaseUntilMs);
  }

  /** Takes out what is held of first … last; `each` sees the runs that were. */
  remove(first: number, last: number, each?: (first: number, last: number) => void): Freed {
    return this.#held.remove(first, last, each);
  }

  /** The first run that is out and ends at or behind `offset`; undefined if there is none. */
  at(offset: number): { readonly first: number; readonly last: number } | undefined {
    const held = this.#held.at(offset);
    const moving = this.#moving?.at(offset);
    return moving !== undefined && (held === undefined || moving.first < held.first) ? moving : held;
  }

  /** What is held of the runs, ascending. */
  among(runs: OffsetRuns): { readonly first: number; readonly last: number }[] {
    return this.#held.among(runs);
  }

  /** Whether a record of first … last is MOVING. */
  anyMoving(first: number, last: number): boolean {
    return (this.#moving?.at(first)?.first ?? Infinity) <= last;
  }

  /** The held runs whose lease is over. */
  expired(nowMs: number): { readonly first: number; readonly last: number }[] {
    return this.#held.expired(nowMs);
  }

  /** When the first lease of a held run is over; null if there is none. */
  nextLeaseMs(): number | null {
    return this.#held.nextLeaseMs();
  }

  /** Whether every record of the runs is held. */
  holdsAll(runs: OffsetRuns): boolean {
    return isAll(runs, this.#held.among(runs));
  }

  /** The runs, all of which are held, are MOVING from now on. A lease of theirs is none any more. */
  move(runs: OffsetRuns): void {
    assert(this.holdsAll(runs), 'only records that the holder has can move');
    const moving = (this.#moving ??= new Pieces());
    for (let at = 0; at < runs.length; at += 2) {
      this.#held.remove(runs[at]!, runs[at + 1]!, (first, last, bytesOf) => {
        moving.add(first, last, bytesOf, null);
      });
    }
  }

  /** The runs, all of which are MOVING, are out no more. */
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
