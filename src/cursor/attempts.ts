import type { OffsetRuns } from './runs.ts';
import { flatAttempts } from './snapshot.ts';

const none: readonly number[] = [];

/** How many attempts have ended of each record that is not acked. Counted record by record, since few have any. */
export class Attempts {
  readonly #ended = new Map<number, number>();
  /** Counted since `takeNew`. */
  readonly #new = new Set<number>();

  /** As they are stored. */
  constructor(flat: readonly number[]) {
    for (let at = 0; at < flat.length; at += 2) this.#ended.set(flat[at]!, flat[at + 1]!);
  }

  get any(): boolean {
    return this.#ended.size > 0;
  }

  get anyNew(): boolean {
    return this.#new.size > 0;
  }

  of(offset: number): number {
    return this.#ended.get(offset) ?? 0;
  }

  count(first: number, last: number): void {
    for (let offset = first; offset <= last; offset++) {
      this.#ended.set(offset, this.of(offset) + 1);
      this.#new.add(offset);
    }
  }

  forget(isAcked: (offset: number) => boolean): void {
    for (const offset of this.#ended.keys()) {
      if (!isAcked(offset)) continue;
      this.#ended.delete(offset);
      this.#new.delete(offset);
    }
  }

  clear(): void {
    this.#ended.clear();
    this.#new.clear();
  }

  /** The lowest record of first … last that has so many or more; undefined if there is none. */
  lowest(first: number, last: number, endedMin: number): number | undefined {
    let lowest: number | undefined;
    for (const [offset, ended] of this.#ended) {
      if (offset >= first && offset <= (lowest ?? last) && ended >= endedMin) lowest = offset;
    }
    return lowest;
  }

  flat(committedOffset: number, acked: OffsetRuns): readonly number[] {
    return flatAttempts(this.#ended, committedOffset, acked);
  }

  /** Those that were counted since the last call. */
  takeNew(committedOffset: number, acked: OffsetRuns): readonly number[] {
    if (this.#new.size === 0) return none;
    const counts = new Map(Array.from(this.#new, (offset) => [offset, this.of(offset)]));
    this.#new.clear();
    return flatAttempts(counts, committedOffset, acked);
  }
}
