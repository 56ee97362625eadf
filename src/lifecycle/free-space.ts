import { Fault } from '../errors/fault.ts';
import type { WriteTrouble } from '../errors/write-trouble.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Clock } from '../time/clock.ts';
import { Every } from '../time/every.ts';
import type { Logger } from '../time/logger.ts';
import type { RetentionStore } from './store.ts';

const intervalMs = 5_000;

interface FreeSpaceDeps {
  readonly store: Pick<RetentionStore, 'hasSpace' | 'freeBallast' | 'makeBallast'>;
  readonly writes: WriteTrouble;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called when the disk is full, because caps can free space. */
  readonly onFull: () => void;
}

/**
 * Watches a database whose disk is full or that is read-only. A ballast is kept in the database: it
 * is freed on a full disk, so that acks, the lease and drops still fit. Every 5 s a probe looks
 * whether writes work again.
 */
export class FreeSpace implements BackgroundJob {
  readonly #d: FreeSpaceDeps;
  readonly #loop: Every;
  /** Whether the ballast may be there. */
  #hasBallast = false;
  #isTold = false;

  constructor(deps: FreeSpaceDeps) {
    this.#d = deps;
    this.#loop = new Every({
      clock: deps.clock,
      delayMs: intervalMs,
      run: () => this.#look(),
      // The next look tries again, and the sessions report trouble of the database.
      onError: () => undefined,
    });
    deps.writes.onBegin(() => {
      this.#loop.soon();
    });
  }

  start(): void {
    this.#loop.start();
    this.#loop.soon();
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }

  async #look(): Promise<void> {
    const { store, writes } = this.#d;
    if (writes.kind === null) {
      if (!this.#hasBallast) await this.#makeBallast();
      return;
    }
    this.#tell(writes.kind);
    if (writes.kind === 'DISK_FULL') {
      // The drops of caps may fit into what the ballast has left.
      if (this.#hasBallast) await this.#freeBallast();
      this.#d.onFull();
    }
    if (!(await this.#mayWrite())) return;
    writes.ended();
    this.#isTold = false;
    this.#d.log.info({}, 'the database takes writes again');
    await store.makeBallast();
    this.#hasBallast = true;
  }

  async #makeBallast(): Promise<void> {
    await this.#d.store.makeBallast();
    this.#hasBallast = true;
  }

  async #freeBallast(): Promise<void> {
    await this.#d.store.freeBallast();
    this.#hasBallast = false;
  }

  async #mayWrite(): Promise<boolean> {
    try {
      return await this.#d.store.hasSpace();
    } catch (error) {
      if (error instanceof Fault && error.kind === 'DATABASE_READ_ONLY') return false;
      throw error;
    }
  }

  #tell(kind: 'DISK_FULL' | 'DATABASE_READ_ONLY'): void {
    if (this.#isTold) return;
    this.#isTold = true;
    const what = kind === 'DISK_FULL' ? 'the disk of the database is full' : 'the database is read-only';
    this.#d.log.warn({}, `${what}: publishes are refused until it takes writes again`);
  }
}
