import type { WriteTrouble } from '../errors/write-trouble.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import { Every } from '../time/every.ts';
import { Cleaner, type CleanerDeps } from './cleaner.ts';
import { Drops } from './drops.ts';
import { FreeSpace } from './free-space.ts';
import type { RetentionStore } from './store.ts';

const tidyIntervalMs = 3_600_000;

interface RetentionDeps extends Omit<CleanerDeps, 'store' | 'onDropped' | 'isDiskFull'> {
  readonly store: RetentionStore;
  readonly writes: WriteTrouble;
}

/**
 * The jobs that let records go: the cleaner plans, the drops remove the tables, and on a full disk
 * the caps are looked at first.
 */
export class Retention implements BackgroundJob {
  readonly cleaner: Cleaner;
  readonly drops: Drops;
  readonly #space: FreeSpace;
  readonly #tidying: Every;

  constructor(deps: RetentionDeps) {
    const { store, clock, log, logs, writes } = deps;
    const wantsSegment = (topicId: number): boolean => logs.topicOf(topicId)?.wantsNext ?? false;
    this.drops = new Drops({ store, clock, log, wantsSegment });
    this.cleaner = new Cleaner({
      ...deps,
      isDiskFull: () => writes.kind === 'DISK_FULL',
      onDropped: () => {
        this.drops.soon();
      },
    });
    this.#tidying = new Every({
      clock,
      delayMs: tidyIntervalMs,
      run: () => store.tidy(),
      onError: (error) => {
        log.warn({ err: error }, 'old rows of the audit could not be removed; it is tried again');
      },
    });
    this.#space = new FreeSpace({
      store,
      writes,
      clock,
      log,
      onFull: () => {
        this.cleaner.freeSpace();
      },
    });
  }

  /** @throws Fault */
  load(): Promise<void> {
    return this.cleaner.load();
  }

  start(): void {
    this.cleaner.start();
    this.drops.start();
    this.#space.start();
    this.#tidying.start();
  }

  async stop(): Promise<void> {
    const jobs = [this.cleaner, this.drops, this.#space, this.#tidying];
    await Promise.all(jobs.map((job) => job.stop()));
  }

  /** For /metrics. */
  stats() {
    return { ...this.cleaner.stats(), ...this.drops.stats() };
  }
}
