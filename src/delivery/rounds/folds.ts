import type { AckRing } from '../../commit/ack-ring.ts';
import type { BackgroundJob } from '../../time/background-job.ts';
import type { Clock } from '../../time/clock.ts';
import { Every } from '../../time/every.ts';
import { within } from '../../time/within.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { FoundInAckLog, GroupStore, StoredCursor } from '../ports/store.ts';

/**
 * Folds the ack log into the cursors: every 5 s, less often with more cursors that changed, and at least once a minute. A fold
 * writes each of them once, however often it moved, so with a million of them a fold every 5 s would be most of the writes
 * of the broker. A successor reads what the log has by then, so many rounds bring the next fold forward.
 *
 * The first fold after a load writes what the broker before left in the log, whoever uses those cursors, and a fold goes on until
 * the log is empty; after that an idle broker folds nothing.
 */
const lookIntervalMs = 5_000;
const intervalMsMax = 60_000;
/** How soon a fold that waits for settlements sees that it has no time left. */
const settlementLookMs = 100;
/** A million cursors in a minute. */
const intervalMsPerCursor = 0.06;
/** Deltas that the log may have before the interval is over: as many, or so many times the cursors that changed. */
const deltasMin = 1_000_000;
const deltasPerCursor = 4;

const nothingFound: FoundInAckLog = { cursors: 0, rounds: 0 };

interface FoldsDeps {
  readonly store: GroupStore;
  readonly ring: AckRing;
  readonly clock: Clock;
  readonly onFailed: (error: unknown) => void;
}

export class Folds implements BackgroundJob {
  readonly #d: FoldsDeps;
  /** Cursors whose rounds are not folded yet. */
  #changed = new Set<Feed>();
  /** Cursors that the load found in the ack log and no fold has written yet. */
  #found = 0;
  /** Rounds were appended that are not folded yet, or an earlier fold could not empty the log. */
  #logHasRows = false;
  #deltas = 0;
  #lastMs = 0;
  /** No fold goes on after this. */
  #untilMs = Infinity;
  readonly #loop: Every;

  constructor(deps: FoldsDeps) {
    this.#d = deps;
    this.#loop = new Every({
      clock: deps.clock,
      delayMs: lookIntervalMs,
      run: async () => {
        if (this.#isDue()) await this.#fold();
      },
      onError: deps.onFailed,
    });
  }

  start(found: FoundInAckLog = nothingFound): void {
    this.#found = found.cursors;
    this.#logHasRows ||= found.rounds > 0;
    this.#lastMs = this.#d.clock.nowMs();
    this.#untilMs = Infinity;
    this.#loop.start();
  }

  /** A round names the cursor. */
  changed(log: Feed): void {
    this.#changed.add(log);
  }

  /** A round of so many deltas is appended, or is about to be. */
  appended(deltas: number): void {
    this.#logHasRows = true;
    this.#deltas += deltas;
  }

  forget(log: Feed): void {
    this.#changed.delete(log);
  }

  /** No fold begins by itself any more, and one that is under way ends at the deadline. */
  stop(untilMs = -Infinity): Promise<void> {
    this.#untilMs = untilMs;
    return this.#loop.stop();
  }

  /**
   * Folds for the last time, after `stop`. At the deadline the fold ends where it is: the ack log has the rest, and the
   * successor reads it. @throws Fault
   */
  async finish(): Promise<void> {
    if (this.#logHasRows) await this.#fold();
  }

  #isDue(): boolean {
    if (!this.#logHasRows) return false;
    const cursors = this.#changed.size + this.#found;
    if (this.#deltas >= Math.max(deltasMin, cursors * deltasPerCursor)) return true;
    const intervalMs = Math.min(intervalMsMax, cursors * intervalMsPerCursor);
    return this.#d.clock.nowMs() - this.#lastMs >= intervalMs;
  }

  /** Waits for settlements that are on their way to an older table: what is folded must have them. @returns whether they are done. */
  async #olderAreFree(): Promise<boolean> {
    const { ring, clock } = this.#d;
    while (!ring.olderAreFree && clock.nowMs() < this.#untilMs) {
      await within(clock, settlementLookMs, ring.olderFree());
    }
    return ring.olderAreFree;
  }

  async #fold(): Promise<void> {
    const { store, ring, clock } = this.#d;
    ring.turn();
    if (!(await this.#olderAreFree())) return;
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
  }
}

function* snapshotsOf(logs: ReadonlySet<Feed>): Generator<StoredCursor> {
  for (const { key, cursor } of logs) yield { key, cursor: cursor.snapshot() };
}
