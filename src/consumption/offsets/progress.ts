import { Attempts } from './attempts.ts';
import { addRun, countOf, coversRun, cutBelow, fitted, touchedRuns, type OffsetRuns } from './runs.ts';
import type { CommitMetadata, CursorDelta, CursorSnapshot } from './snapshot.ts';
import { present } from '../../errors/present.ts';

const noRuns: OffsetRuns = [];
const settled = 'a settlement completes records';

/**
 * The durable half of a cursor: the acked records, the ended attempts, the note of the last commit,
 * and the incarnation. Every kind of cursor has one, however it delivers its records.
 *
 * A progress also knows what is new since the last delta, and up to which offset acks are durable.
 */
export class Progress {
  readonly attempts: Attempts;
  #resets: number;
  #committed: number;
  #durable: number;
  #acked: number[];
  #ackedCount: number;
  #metadata: CommitMetadata | null;
  /** The committed offset that the last delta, or a settlement, has reported. */
  #reportedCommitted: number;
  #newlyAcked: number[] = [];
  #metadataIsNew = false;

  constructor(snapshot: CursorSnapshot, attemptRunsMax: number) {
    this.#resets = snapshot.resets;
    this.#committed = this.#durable = this.#reportedCommitted = snapshot.committedOffset;
    this.#acked = [...snapshot.acked];
    this.#ackedCount = countOf(snapshot.acked);
    this.#metadata = snapshot.metadata;
    this.attempts = new Attempts(snapshot.attempts, attemptRunsMax);
  }

  /** The number of resets: the incarnation of the cursor. */
  get resets(): number {
    return this.#resets;
  }

  /** The lowest offset that is not acked. */
  get committedOffset(): number {
    return this.#committed;
  }

  /** The committed offset up to which acks are known to be durable. */
  get durableOffset(): number {
    return this.#durable;
  }

  /** Runs acked ahead of the committed offset. */
  get acked(): OffsetRuns {
    return this.#acked;
  }

  /** The note of the last commit; empty if it had none. */
  get metadata(): string {
    return this.#metadata?.text ?? '';
  }

  /** The number of acked records. */
  get completedRecords(): number {
    return this.#committed + this.#ackedCount;
  }

  /** The number of un-acked records below the end of the log. */
  lag(endOffset: number): number {
    return Math.max(0, endOffset - this.completedRecords);
  }

  isAcked(first: number, last: number): boolean {
    return last < this.#committed || coversRun(this.#acked, Math.max(first, this.#committed), last);
  }

  /** How many more runs are acked ahead after an ack of the runs; negative if it joins some. */
  holeGrowth(runs: OffsetRuns): number {
    let growth = 0;
    for (let at = 0; at < runs.length; at += 2) {
      const isAhead = runs[at]! > this.#committed;
      growth += Number(isAhead) - touchedRuns(this.#acked, runs[at]!, runs[at + 1]!);
    }
    return growth;
  }

  ackBelow(offset: number): void {
    this.#commit(offset);
  }

  ackRuns(runs: OffsetRuns): void {
    this.#add(runs, this.#newlyAcked);
  }

  /** Acks runs whose acks a settlement has made durable, so that no delta has to contain them. */
  ackDurableRuns(runs: OffsetRuns): void {
    this.#add(runs, null);
    const [first, last] = [present(runs[0], settled), present(runs[1], settled)];
    if (first > this.#durable) return;
    this.#durable = Math.max(this.#durable, last + 1);
    this.#reportedCommitted = Math.max(this.#reportedCommitted, this.#durable);
  }

  annotate(text: string): void {
    this.#metadata = { seq: (this.#metadata?.seq ?? 0) + 1, text };
    this.#metadataIsNew = true;
  }

  /** Begins a later incarnation, which is durable already, at the offset. */
  reset(offset: number, resets: number): void {
    this.#resets = resets;
    this.#committed = this.#durable = this.#reportedCommitted = offset;
    this.#acked = [];
    this.#ackedCount = 0;
    this.attempts.clear();
    this.#metadata = null;
    this.#newlyAcked = [];
    this.#metadataIsNew = false;
  }

  /** What has changed since the last delta and must become durable; null if nothing has changed. */
  takeDelta(): CursorDelta | null {
    const unchanged = this.#committed === this.#reportedCommitted && this.#newlyAcked.length === 0;
    if (unchanged && !this.attempts.anyNew && !this.#metadataIsNew) return null;
    const newlyAcked = this.#newlyAcked;
    // The array keeps its room when it is emptied, and a cursor would keep it for ever.
    if (newlyAcked.length > 0) this.#newlyAcked = [];
    const delta = {
      resets: this.#resets,
      committedOffset: this.#committed,
      // Nearly always empty: a new array for each of a million cursors would be garbage to collect.
      acked: newlyAcked.length === 0 ? noRuns : newlyAcked,
      attempts: this.attempts.takeNew(),
      metadata: this.#metadataIsNew ? this.#metadata : null,
    };
    this.#reportedCommitted = this.#committed;
    this.#metadataIsNew = false;
    return delta;
  }

  /** Raises the durable offset to that of a written delta of the same incarnation. */
  written({ resets, committedOffset }: CursorDelta): void {
    if (resets === this.#resets) this.#durable = Math.max(this.#durable, committedOffset);
  }

  snapshot(): CursorSnapshot {
    return {
      resets: this.#resets,
      committedOffset: this.#committed,
      acked: [...this.#acked],
      attempts: this.attempts.all(),
      metadata: this.#metadata,
    };
  }

  #add(runs: OffsetRuns, newlyAcked: number[] | null): void {
    for (let at = 0; at < runs.length; at += 2) {
      const first = Math.max(runs[at]!, this.#committed);
      const last = runs[at + 1]!;
      if (last < first) continue;
      if (first === this.#committed) {
        this.#commit(last + 1);
        continue;
      }
      const added = addRun(this.#acked, first, last);
      this.#ackedCount += added;
      if (newlyAcked !== null && added > 0) addRun(newlyAcked, first, last);
      this.attempts.forget(first, last);
      this.#acked = fitted(this.#acked);
    }
  }

  /** Acks everything below `offset`, and moves on over a run acked ahead that begins there. */
  #commit(offset: number): void {
    this.#ackedCount -= cutBelow(this.#acked, offset);
    if (this.#acked[0] === offset) {
      offset = present(this.#acked[1], 'a run has an end') + 1;
      this.#ackedCount -= cutBelow(this.#acked, offset);
    }
    this.#committed = offset;
    // While the database does not answer no delta takes the runs, which would grow for ever.
    if (this.#newlyAcked.length > 0) cutBelow(this.#newlyAcked, offset);
    this.attempts.forgetBelow(offset);
  }
}
