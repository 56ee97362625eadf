import { constants, PerformanceObserver, type PerformanceEntry } from 'node:perf_hooks';
import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';
import { youngBytes } from '../account/budget.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Logger } from '../time/logger.ts';

/**
 * Above the first share the broker takes nothing new that stays; below the second it does again.
 * The remainder is for short-lived objects.
 */
const shortShare = 0.8;
const easyShare = 0.75;

/**
 * The size of the old generation just after a full collection, which cannot be freed, and its
 * limit.
 */
export interface HeapUse {
  readonly keptBytes: number;
  readonly maxBytes: number;
}

/**
 * Whether the heap has room for more members, cursors and logs. They have no limit over all groups,
 * and a full heap ends the process. The broker therefore rejects new ones before, and logs a
 * warning even earlier.
 */
export class HeapWatch implements BackgroundJob {
  readonly #log: Logger;
  #use: HeapUse = { keptBytes: 0, maxBytes: 1 };
  #short = false;
  #observer: PerformanceObserver | null = null;

  constructor(log: Logger) {
    this.#log = log;
  }

  get mayGrow(): boolean {
    return !this.#short;
  }

  /** The state after the last full collection; 0 before the first one. */
  get use(): HeapUse {
    return this.#use;
  }

  /** Checks the heap after each full collection from now on. */
  start(): void {
    if (this.#observer !== null) return;
    this.#observer = new PerformanceObserver((list) => {
      const collections = list.getEntries() as (PerformanceEntry & { readonly detail: { readonly kind: number } })[];
      const full = collections.some(({ detail }) => detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR);
      if (full) this.look(heapUse());
    });
    this.#use = { keptBytes: 0, maxBytes: heapUse().maxBytes };
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  async stop(): Promise<void> {
    this.#observer?.disconnect();
    this.#observer = null;
  }

  look(use: HeapUse): void {
    this.#use = use;
    const share = use.keptBytes / use.maxBytes;
    if (!this.#short && share >= shortShare) {
      this.#short = true;
      this.#log.warn(
        use,
        'the heap is nearly full: no new member, group, subscription or partition is taken; start with a larger HEAP_MIB',
      );
    } else if (this.#short && share < easyShare) {
      this.#short = false;
      this.#log.info(use, 'the heap has room again');
    }
  }
}

/** The heap at this moment. `keptBytes` has garbage in it, except just after a full collection. */
export function heapUse(): HeapUse {
  const old = getHeapSpaceStatistics().filter(({ space_name: name }) => !name.startsWith('new_'));
  const { heap_size_limit: limitBytes } = getHeapStatistics();
  return {
    keptBytes: old.reduce((sum, { space_used_size: bytes }) => sum + bytes, 0),
    maxBytes: Math.max(limitBytes - youngBytes, limitBytes / 2),
  };
}
