import { Attempts } from './attempts.ts';
import { addRun, countOf, coversRun, cutBelow, type OffsetRuns } from './runs.ts';
import type { CommitMetadata, CursorDelta, CursorSnapshot } from './snapshot.ts';

const noRuns: OffsetRuns = [];

/**
 * The half of a cursor that becomes durable: what is acked, which attempts have ended, what was noted with a commit, and the
 * incarnation. Every kind of cursor has one, however its records are handed out.
 *
 * It also knows how much of that is new since the last delta, and up to which offset the acks are known to be durable.
 */
export class Progress {
  readonly attempts: Attempts;
  #resets: number;
  #committed: number;
  #durable: number;
  #acked: number[];
  #ackedCount: number;
  #metadata: CommitMetadata | null;
  /** The committed offset of the last delta. */
  #toldCommitted: number;
  #newlyAcked: number[] = [];
  #metadataIsNew = false;

  constructor(snapshot: CursorSnapshot) {
    this.#resets = snapshot.resets;
    this.#committed = this.#durable = this.#toldCommitted = snapshot.committedOffset;
    this.#acked = [...snapshot.acked];
    this.#ackedCount = countOf(snapshot.acked);
    this.#metadata = snapshot.metadata;
    this.attempts = new Attempts(snapshot.attempts);
  }

  /** How often the cursor was begun anew. */
  get resets(): number {
    return this.#resets;
  }

  /** The lowest offset that is not acked. */
  get committedOffset(): number {
    return this.#committed;
  }

  /** The committed offset as it is known to be durable. */
  get durableOffset(): number {
    return this.#durable;
  }

  /** Acked runs above the committed offset. */
  get acked(): OffsetRuns {
    return this.#acked;
  }

  /** What was noted with the last commit; empty if nothing was. */
  get metadata(): string {
    return this.#metadata?.text ?? '';
  }

  /** Records below the end of the log that are not acked. */
  lag(endOffset: number): number {
    return Math.max(0, endOffset - this.#committed - this.#ackedCount);
  }

  isAcked(first: number, last: number): boolean {
    return last < this.#committed || coversRun(this.#acked, Math.max(first, this.#committed), last);
  }

  ackBelow(offset: number): void {
    this.#commit(offset);
  }

  ackRuns(runs: OffsetRuns): void {
    this.#add(runs, this.#newlyAcked);
  }

  /** Acks runs of which a settlement has made the acks durable: no delta needs to tell of them. */
  ackDurableRuns(runs: OffsetRuns): void {
    this.#add(runs, null);
    if (runs[0]! > this.#durable) return;
    this.#durable = Math.max(this.#durable, runs[1]! + 1);
    this.#toldCommitted = Math.max(this.#toldCommitted, this.#durable);
  }

  annotate(text: string): void {
    this.#metadata = { seq: (this.#metadata?.seq ?? 0) + 1, text };
    this.#metadataIsNew = true;
  }

  /** Begins anew at the offset, in a later incarnation that is durable already. */
  reset(offset: number, resets: number): void {
    this.#resets = resets;
    this.#committed = this.#durable = this.#toldCommitted = offset;
    this.#acked = [];
    this.#ackedCount = 0;
    this.attempts.clear();
    this.#metadata = null;
    this.#newlyAcked = [];
    this.#metadataIsNew = false;
  }

  /** What is to be made durable since the last delta; null if nothing is. */
  takeDelta(): CursorDelta | null {
    const unchanged = this.#committed === this.#toldCommitted && this.#newlyAcked.length === 0;
    if (unchanged && !this.attempts.anyNew && !this.#metadataIsNew) return null;
    cutBelow(this.#newlyAcked, this.#committed);
    const delta = {
      resets: this.#resets,
      committedOffset: this.#committed,
      // Nearly always none: a new array in each of a million cursors is work for the collector.
      acked: this.#newlyAcked.length === 0 ? noRuns : this.#newlyAcked.splice(0),
      attempts: this.attempts.takeNew(),
      metadata: this.#metadataIsNew ? this.#metadata : null,
    };
    this.#toldCommitted = this.#committed;
    this.#metadataIsNew = false;
    return delta;
  }

  /** A delta is durable. One of an earlier incarnation says nothing any more. */
  written({ resets, committedOffset }: CursorDelta): void {
    if (resets === this.#resets) this.#durable = Math.max(this.#durable, committedOffset);
  }

  snapshot(): CursorSnapshot {
    return {
      resets: this.#resets,
      committedOffset: this.#committed,
      acked: [...this.#acked],
      attempts: this.attempts.flat(),
      metadata: this.#metadata,
    };
  }

  #add(runs: OffsetRuns, newlyAcked: number[] | null): void {
    for (let at = 0; at < runs.length; at += 2) {
      const first = Math.max(runs[at]!, this.#committed);
      const last = runs[at + 1]!;
      if (last < first) continue;
      this.#ackedCount += addRun(this.#acked, first, last);
      if (newlyAcked !== null) addRun(newlyAcked, first, last);
      this.attempts.forget(first, last);
    }
    this.#commit(this.#committed);
  }

  /** Everything below `offset` is acked, and what was acked beyond it may now follow on. */
  #commit(offset: number): void {
    this.#ackedCount -= cutBelow(this.#acked, offset);
    if (this.#acked[0] === offset) {
      offset = this.#acked[1]! + 1;
      this.#ackedCount -= cutBelow(this.#acked, offset);
    }
    this.#committed = offset;
    this.attempts.forgetBelow(offset);
  }
}
