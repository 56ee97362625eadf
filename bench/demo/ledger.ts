import { Histogram } from '../support/histogram.ts';
import type { Percentiles } from '../support/histogram.ts';

/** What became of everything that was published, group by group. */
export interface Verdict {
  readonly group: string;
  /** Different records that it got. */
  readonly received: number;
  /** Published and never received. */
  readonly missing: number;
  /** Received again: allowed after a kill, for what was not acked yet. */
  readonly duplicates: number;
  /** A record that came, for the first time, after a later one of its key. */
  readonly orderViolations: number;
  readonly perSecond: number;
  /** From sent to handled, first deliveries only. */
  readonly latency: Percentiles;
}

/** One batch as a member handled it. */
export interface Handled {
  /** By the clock that all processes of this machine share. */
  readonly atUs: number;
  /** Number of each record, in the order handled. */
  readonly numbers: readonly number[];
  /** When each was sent. */
  readonly sentUs: readonly number[];
}

/**
 * Keeps the account of the demo. Members report from processes of their own, and their reports may arrive in another
 * order than things happened, so order is judged at the end, by the time of handling.
 */
export class Ledger {
  readonly #keys: string[] = [];
  readonly #handled = new Map<string, Handled[]>();
  readonly #seen = new Map<string, Set<number>>();
  readonly #duplicates = new Map<string, number>();

  constructor(groups: readonly string[]) {
    for (const group of groups) {
      this.#handled.set(group, []);
      this.#seen.set(group, new Set());
      this.#duplicates.set(group, 0);
    }
  }

  get published(): number {
    return this.#keys.length;
  }

  /** @returns the number that the record travels with. */
  publish(key: string): number {
    return this.#keys.push(key) - 1;
  }

  receive(group: string, handled: Handled): void {
    const seen = this.#seen.get(group)!;
    for (const number of handled.numbers) {
      if (seen.has(number)) this.#duplicates.set(group, this.#duplicates.get(group)! + 1);
      seen.add(number);
    }
    this.#handled.get(group)!.push(handled);
  }

  received(group: string): number {
    return this.#seen.get(group)!.size;
  }

  duplicates(group: string): number {
    return this.#duplicates.get(group)!;
  }

  /** First deliveries, over all groups. */
  get receivedInAll(): number {
    return [...this.#seen.values()].reduce((sum, seen) => sum + seen.size, 0);
  }

  /** Every group has everything that was published. */
  get complete(): boolean {
    return [...this.#seen.values()].every((seen) => seen.size === this.published);
  }

  judge(): Verdict[] {
    return [...this.#handled.keys()].map((group) => this.#judgeGroup(group));
  }

  #judgeGroup(group: string): Verdict {
    const batches = this.#handled.get(group)!.toSorted((a, b) => a.atUs - b.atUs);
    const latency = new Histogram();
    const seen = new Set<number>();
    const lastOfKey = new Map<string, number>();
    let orderViolations = 0;
    for (const { atUs, numbers, sentUs } of batches) {
      for (const [i, number] of numbers.entries()) {
        if (seen.has(number)) continue;
        seen.add(number);
        latency.record(atUs - sentUs[i]!);
        const key = this.#keys[number] ?? '';
        if (key === '') continue;
        const last = lastOfKey.get(key) ?? -1;
        if (number < last) orderViolations++;
        else lastOfKey.set(key, number);
      }
    }
    const seconds = batches.length < 2 ? NaN : (batches.at(-1)!.atUs - batches[0]!.atUs) / 1e6;
    return {
      group,
      received: seen.size,
      missing: this.published - seen.size,
      duplicates: this.duplicates(group),
      orderViolations,
      perSecond: seen.size / seconds,
      latency: latency.percentiles(),
    };
  }
}
