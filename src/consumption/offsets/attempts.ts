import type { OffsetRuns } from './runs.ts';
import { flatAttempts } from './snapshot.ts';

const none: readonly number[] = [];
const nothingEnded: ReadonlyMap<number, number> = new Map();

/**
 * How many attempts have ended of each record that is not acked. Counted record by record, since few have any. Most cursors never see
 * one, and there may be 100,000 of them: what counts is made with the first.
 */
export class Attempts {
  #ended: Map<number, number> | null = null;
  /** Counted since `takeNew`. */
  #new: Set<number> | null = null;

  /** As they are stored. */
  constructor(flat: readonly number[]) {
    for (let at = 0; at < flat.length; at += 2) (this.#ended ??= new Map()).set(flat[at]!, flat[at + 1]!);
  }

  get any(): boolean {
    return this.#ended !== null && this.#ended.size > 0;
  }

  get anyNew(): boolean {
    return this.#new !== null && this.#new.size > 0;
  }

  of(offset: number): number {
    return this.#ended?.get(offset) ?? 0;
  }

  count(first: number, last: number): void {
    const ended = (this.#ended ??= new Map());
    const added = (this.#new ??= new Set());
    for (let offset = first; offset <= last; offset++) {
      ended.set(offset, this.of(offset) + 1);
      added.add(offset);
    }
  }

  forget(isAcked: (offset: number) => boolean): void {
    if (this.#ended === null) return;
    for (const offset of this.#ended.keys()) {
      if (!isAcked(offset)) continue;
      this.#ended.delete(offset);
      this.#new?.delete(offset);
    }
  }

  clear(): void {
    this.#ended = this.#new = null;
  }

  /** The lowest record of first … last that has so many or more; undefined if there is none. */
  lowest(first: number, last: number, endedMin: number): number | undefined {
    let lowest: number | undefined;
    for (const [offset, ended] of this.#ended ?? nothingEnded) {
      if (offset >= first && offset <= (lowest ?? last) && ended >= endedMin) lowest = offset;
    }
    return lowest;
  }

  flat(committedOffset: number, acked: OffsetRuns): readonly number[] {
    return flatAttempts(this.#ended ?? nothingEnded, committedOffset, acked);
  }

  /** Those that were counted since the last call. */
  takeNew(committedOffset: number, acked: OffsetRuns): readonly number[] {
    if (this.#new === null) return none;
    const counts = new Map(Array.from(this.#new, (offset) => [offset, this.of(offset)]));
    this.#new = null;
    return flatAttempts(counts, committedOffset, acked);
  }
}
