import type { LoadProcess } from '../load-process.ts';
import { Meter } from './meter.ts';
import type { Cost } from './meter.ts';
import type { Database } from '../database.ts';
import { delay, waitFor } from '../timing.ts';

export interface Interval {
  readonly warmUpMs: number;
  readonly measureMs: number;
}

/** Lets running loads warm up, then measures their results and their cost. */
export async function measure<Result>(
  loads: readonly LoadProcess<Result>[],
  database: Database,
  brokerPid: number | null,
  interval: Interval,
): Promise<{ readonly results: Result[]; readonly cost: Cost }> {
  await delay(interval.warmUpMs);
  const meter = new Meter(
    database,
    brokerPid,
    loads.map((load) => load.pid),
  );
  await meter.begin();
  for (const load of loads) load.mark();
  await delay(interval.measureMs);
  const results = await Promise.all(loads.map((load) => load.collect()));
  return { results, cost: await meter.end() };
}

/** Groups that have acked nothing for this long count as stuck. */
const stuckMs = 30_000;

/**
 * Ties publishers to the slowest group. They may be at most `window` messages ahead of it, so that
 * the measured rate is sustained, and not that of a growing backlog.
 */
export class Throttle {
  readonly #publishers: readonly LoadProcess<unknown>[];
  readonly #done: number[];
  readonly #window: number;

  constructor(publishers: readonly LoadProcess<unknown>[], consumers: readonly LoadProcess<unknown>[], window: number) {
    this.#publishers = publishers;
    this.#window = window;
    this.#done = consumers.map(() => 0);
    for (const [index, consumer] of consumers.entries()) {
      consumer.onProgress = (messages) => {
        this.#done[index] = messages;
        this.#allow();
      };
    }
    this.#allow();
  }

  /** The number of messages that every group has acked. */
  get done(): number {
    return Math.min(...this.#done);
  }

  #allow(): void {
    const each = (this.done + this.#window) / this.#publishers.length;
    for (const publisher of this.#publishers) publisher.allow(each);
  }

  /**
   * Waits until every group has acked `messages`.
   * @throws Error if the groups stop before, because a message was lost
   */
  async drained(messages: number): Promise<void> {
    while (this.done < messages) {
      const before = sum(this.#done, (done) => done);
      const moves = (): boolean => this.done >= messages || sum(this.#done, (done) => done) > before;
      await waitFor('an ack', stuckMs, 5, moves).catch(() => {
        throw new Error(
          `the groups stopped at ${this.done} of ${messages} messages, and have acked nothing for ${stuckMs} ms`,
        );
      });
    }
  }
}

export async function stopAll(loads: readonly LoadProcess<unknown>[]): Promise<void> {
  await Promise.all(loads.map((load) => load.stop()));
}

export async function endAll(loads: readonly LoadProcess<unknown>[]): Promise<void> {
  await Promise.all(loads.map((load) => load.end()));
}

export function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
