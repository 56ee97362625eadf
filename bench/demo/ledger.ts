import { Histogram } from '../support/histogram.ts';
import type { Percentiles } from '../support/histogram.ts';

/** The result of the demo for one group. */
export interface Verdict {
  readonly group: string;
  /** The number of different records that the group received. */
  readonly received: number;
  /** Records that were published and never received. */
  readonly missing: number;
  /** Records that were received again. A kill may repeat the records that were not acked. */
  readonly duplicates: number;
  /** Records whose first delivery came after that of a later record of their key. */
  readonly orderViolations: number;
  readonly perSecond: number;
  /** The time from sending to the handler, for first deliveries only. */
  readonly latency: Percentiles;
}

/** A batch that a member has handled. */
export interface Handled {
  /** The time of the handler, by the clock that all processes of this machine share. */
  readonly atUs: number;
  /** The number of each record, in the order of handling. */
  readonly numbers: readonly number[];
  /** The time at which each record was sent. */
  readonly sentUs: readonly number[];
}

/**
 * Keeps the records of the demo. Members report from their own processes, so reports may arrive out
 * of order. The order of records is therefore judged at the end, by the time of handling.
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

  /** @returns the number of the record, which is sent in its headers. */
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

  /** The number of first deliveries in all groups. */
  get receivedInAll(): number {
    return [...this.#seen.values()].reduce((sum, seen) => sum + seen.size, 0);
  }

  /** Whether every group has received every published record. */
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
