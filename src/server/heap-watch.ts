import { constants, PerformanceObserver, type PerformanceEntry } from 'node:perf_hooks';
import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';
import type { Logger } from 'pino';

/** Above it nothing new is taken that stays; below the other one it is again. The rest is for what passes through. */
const shortShare = 0.8;
const easyShare = 0.75;
/** What `npm start` gives the young generation, three semi-spaces of 32 MiB, which V8's limit includes. */
const youngBytes = 100_663_296;

/** What the old generation of the heap holds just after a full collection, which is what cannot be freed, and how much it may hold. */
export interface HeapUse {
  readonly keptBytes: number;
  readonly maxBytes: number;
}

/**
 * Whether the heap has room for more that stays. Members and cursors have no limit over all groups, and a heap that is full ends the
 * process; so from some point on no more of them are taken, and the log says so before.
 */
export class HeapWatch {
  readonly #log: Pick<Logger, 'warn' | 'info'>;
  #use: HeapUse = { keptBytes: 0, maxBytes: 1 };
  #short = false;
  #observer: PerformanceObserver | null = null;

  constructor(log: Pick<Logger, 'warn' | 'info'>) {
    this.#log = log;
  }

  get mayGrow(): boolean {
    return !this.#short;
  }

  /** As the last full collection left it; nothing is kept before the first one. */
  get use(): HeapUse {
    return this.#use;
  }

  /** Looks after each full collection from now on. */
  start(): void {
    this.#observer ??= new PerformanceObserver((list) => {
      const collections = list.getEntries() as (PerformanceEntry & { readonly detail: { readonly kind: number } })[];
      const full = collections.some(({ detail }) => detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR);
      if (full) this.look(heapUse());
    });
    this.#use = { keptBytes: 0, maxBytes: heapUse().maxBytes };
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  stop(): void {
    this.#observer?.disconnect();
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

function heapUse(): HeapUse {
  const old = getHeapSpaceStatistics().filter(({ space_name: name }) => !name.startsWith('new_'));
  const { heap_size_limit: limitBytes } = getHeapStatistics();
  return {
    keptBytes: old.reduce((sum, { space_used_size: bytes }) => sum + bytes, 0),
    maxBytes: Math.max(limitBytes - youngBytes, limitBytes / 2),
  };
}
