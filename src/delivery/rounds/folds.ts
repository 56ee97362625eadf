import type { AckRing } from '../../commit/ack-ring.ts';
import { Fault } from '../../errors/fault.ts';
import type { BackgroundJob } from '../../time/background-job.ts';
import type { Clock } from '../../time/clock.ts';
import { Every } from '../../time/every.ts';
import { within } from '../../time/within.ts';
import type { Feed } from '../dispatch/feed.ts';
import { notOwner } from '../dispatch/not-owner.ts';
import type { AckLogCounts, GroupStore, StoredCursor } from '../ports/store.ts';

/** How often the job looks whether a fold is due: the shortest time between two folds. */
const lookIntervalMs = 5_000;
const intervalMsMax = 60_000;
/** A fold that waits for settlements looks at its deadline so often. */
const settlementLookMs = 100;
/** A million changed cursors stretch the interval to a minute. */
const intervalMsPerCursor = 0.06;
/** So many deltas, or so many for each changed cursor if that is more, make a fold due at once. */
const deltasMin = 1_000_000;
const deltasPerCursor = 4;

const nothingFound: AckLogCounts = { cursors: 0, rounds: 0 };

interface FoldsDeps {
  readonly store: GroupStore;
  readonly ring: AckRing;
  readonly clock: Clock;
  readonly onFailed: (error: unknown) => void;
  /** Called after a fold, with the topics whose cursors it has written. */
  readonly onFolded?: ((topicIds: ReadonlySet<number>) => void) | undefined;
}

/**
 * Folds the ack log into the table of cursors: every 5 s, less often with more changed cursors, and
 * at least once a minute. A fold writes each changed cursor once, however often it has moved. With
 * a million cursors, folds every 5 s would be most of the writes of the broker. Many rounds bring
 * the next fold forward, because a successor has to read them.
 *
 * The first fold after a start writes all cursors that the broker before has left in the log,
 * loaded or not. When the log is empty, an idle broker folds nothing.
 */
export class Folds implements BackgroundJob {
  readonly #d: FoldsDeps;
  /** Cursors whose rounds are not folded yet. */
  #changed = new Set<Feed>();
  /** Cursors in the ack log that are neither loaded nor written by a fold yet. */
  #found = 0;
  /** Whether the log has rounds that are not folded, or that an earlier fold could not truncate. */
  #logHasRows = false;
  #deltas = 0;
  #lastMs = 0;
  /** Callers that wait for the next fold. */
  readonly #wanted: { readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];
  /** The deadline of all folds. */
  #untilMs = Infinity;
  readonly #loop: Every;

  constructor(deps: FoldsDeps) {
    this.#d = deps;
    this.#loop = new Every({
      clock: deps.clock,
      delayMs: lookIntervalMs,
      run: () => this.#look(),
      onError: deps.onFailed,
    });
  }

  start(found: AckLogCounts = nothingFound): void {
    this.#found = found.cursors;
    this.#logHasRows ||= found.rounds > 0;
    this.#lastMs = this.#d.clock.nowMs();
    this.#untilMs = Infinity;
    this.#loop.start();
  }

  /** Makes the next fold write the cursor. */
  changed(log: Feed): void {
    this.#changed.add(log);
  }

  /** Makes the next fold write the cursor, which the load has found in the ack log. */
  loaded(log: Feed): void {
    this.#found = Math.max(0, this.#found - 1);
    this.#changed.add(log);
  }

  /** Counts the deltas of a round that is about to be appended, or of a settlement. */
  appended(deltas: number): void {
    this.#logHasRows = true;
    this.#deltas += deltas;
  }

  forget(log: Feed): void {
    this.#changed.delete(log);
  }

  /** Stops the job. A fold that is under way ends at the deadline. */
  stop(untilMs = -Infinity): Promise<void> {
    this.#untilMs = untilMs;
    for (const { reject } of this.#wanted.splice(0)) reject(notOwner());
    return this.#loop.stop();
  }

  /** Resolves when all that is durable by now is in the table of cursors. @throws Fault */
  now(): Promise<void> {
    if (!this.#loop.isStarted) return Promise.reject(notOwner());
    return new Promise((resolve, reject) => {
      this.#wanted.push({ resolve, reject });
      this.#loop.soon();
    });
  }

  /**
   * Folds for the last time, after `stop`. At the deadline the fold ends early, and the successor
   * reads the rest from the ack log. @throws Fault
   */
  async finish(): Promise<void> {
    if (this.#logHasRows) await this.#fold();
  }

  async #look(): Promise<void> {
    const wanted = this.#wanted.splice(0);
    if (!this.#isDue() && (wanted.length === 0 || !this.#logHasRows)) {
      for (const { resolve } of wanted) resolve();
      return;
    }
    try {
      const isDone = await this.#fold();
      const cut = new Fault('DATABASE_UNAVAILABLE', 'the ack log was not folded to its end');
      for (const { resolve, reject } of wanted) {
        if (isDone) resolve();
        else reject(cut);
      }
    } catch (error) {
      for (const { reject } of wanted) reject(error);
      throw error;
    }
  }

  #isDue(): boolean {
    if (!this.#logHasRows) return false;
    const cursors = this.#changed.size + this.#found;
    if (this.#deltas >= Math.max(deltasMin, cursors * deltasPerCursor)) return true;
    const intervalMs = Math.min(intervalMsMax, cursors * intervalMsPerCursor);
    return this.#d.clock.nowMs() - this.#lastMs >= intervalMs;
  }

  /**
   * Waits for settlements that write to an older table, because the fold truncates it. @returns
   * whether they have ended.
   */
  async #olderAreFree(): Promise<boolean> {
    const { ring, clock } = this.#d;
    while (!ring.olderAreFree && clock.nowMs() < this.#untilMs) {
      await within(clock, settlementLookMs, ring.olderFree());
    }
    return ring.olderAreFree;
  }

  /** @returns whether all cursors are written. */
  async #fold(): Promise<boolean> {
    const { store, ring, clock } = this.#d;
    ring.turn();
    if (!(await this.#olderAreFree())) return false;
    const changed = this.#changed;
    const deltas = this.#deltas;
    this.#changed = new Set();
    this.#logHasRows = false;
    this.#deltas = 0;
    let result: Awaited<ReturnType<GroupStore['fold']>> = 'CUT';
    try {
      result = await store.fold(
        ring.current,
        () => snapshotsOf(changed),
        () => clock.nowMs() < this.#untilMs,
      );
    } finally {
      this.#lastMs = clock.nowMs();
      if (result !== 'EMPTIED') this.#logHasRows = true;
      if (result === 'CUT') {
        for (const log of changed) this.#changed.add(log);
        this.#deltas += deltas;
      } else this.#found = 0;
    }
    if (result === 'CUT') return false;
    this.#d.onFolded?.(topicsOf(changed));
    return true;
  }
}

function topicsOf(logs: ReadonlySet<Feed>): ReadonlySet<number> {
  const topicIds = new Set<number>();
  for (const { log } of logs) topicIds.add(log.address.topicId);
  return topicIds;
}

function* snapshotsOf(logs: ReadonlySet<Feed>): Generator<StoredCursor> {
  for (const { key, cursor } of logs) yield { key, cursor: cursor.snapshot() };
}
