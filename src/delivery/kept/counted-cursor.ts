import { weights } from '../../account/weights.ts';
import type { Cursor } from '../../consumption/partitioned/cursor.ts';
import type { Consumption } from '../../metrics/consumption.ts';
import { isPassed, joinedGap, type LogGap } from '../../retention/gap.ts';
import { recounted, type Kept } from './kept.ts';
import { noteBytes } from './sizes.ts';

/**
 * The cursor of a log, what the account of memory counts for it beside the cursor itself, and what
 * the sums of its subscription have of it.
 */
export class CountedCursor {
  readonly cursor: Cursor;
  readonly #account: Kept;
  readonly #consumption: Consumption;
  #completedRecords = 0;
  #inFlightRecords = 0;
  #deliveryBytes = 0;
  #holeBytes = 0;
  #attemptBytes = 0;
  #noteBytes = 0;
  #gap: LogGap | null = null;
  /** Whether a member has got the gap as it is. */
  #gapTold = false;
  #isHeld = false;
  #isClosed = false;

  constructor(cursor: Cursor, account: Kept, consumption: Consumption) {
    this.cursor = cursor;
    this.#account = account;
    this.#consumption = consumption;
    this.begun();
    this.recountNote();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Counts the log from a new begin of its cursor, which acks nothing. */
  begun(): void {
    const { completedRecords } = this.cursor;
    this.#consumption.completedRecords += completedRecords - this.#completedRecords;
    this.#completedRecords = completedRecords;
    this.recount();
  }

  /** Counts the deliveries, acked runs and attempts of the cursor, after a change of them. */
  recount(): void {
    if (this.#isClosed) return;
    this.#sum();
    this.#closeGap();
    const deliveryBytes = deliveryBytesOf(this.cursor);
    if (deliveryBytes !== this.#deliveryBytes) {
      this.#deliveryBytes = recounted(this.#account.deliveries, this.#deliveryBytes, deliveryBytes);
    }
    const holeBytes = this.cursor.holes * weights.hole;
    if (holeBytes !== this.#holeBytes) {
      this.#holeBytes = recounted(this.#account.holes, this.#holeBytes, holeBytes);
    }
    const attemptBytes = this.cursor.attemptRuns * weights.attemptRun;
    if (attemptBytes !== this.#attemptBytes) {
      this.#attemptBytes = recounted(this.#account.attempts, this.#attemptBytes, attemptBytes);
    }
  }

  /**
   * What retention has taken from the group, until a member has got the gap and the group has acked
   * a record behind it.
   */
  get gap(): LogGap | null {
    this.#closeGap();
    return this.#gap;
  }

  /** Notes what the cursor is about to jump over, or the gap that the database has: told or not. */
  openGap(gap: LogGap, isTold = false): void {
    if (this.#isClosed || (isTold && isPassed(gap, this.cursor.committedOffset))) return;
    const before = this.gap;
    if (before === null) this.#account.cursors.force(weights.gap);
    this.#gap = joinedGap(before, gap);
    this.#gapTold = false;
  }

  /** A member gets the gap. */
  protected gapTold(): void {
    this.#gapTold = true;
    this.#closeGap();
  }

  /** A reset begins a new incarnation, without a gap. */
  protected forgetGap(): void {
    if (this.#gap === null) return;
    this.#gap = null;
    this.#account.cursors.give(weights.gap);
  }

  /** Called when the gap closes. */
  protected gapClosed(_gap: LogGap): void {
    // Only a log of a group keeps gaps in the database.
  }

  #closeGap(): void {
    const gap = this.#gap;
    if (gap === null || !this.#gapTold || !isPassed(gap, this.cursor.committedOffset)) return;
    this.forgetGap();
    this.gapClosed(gap);
  }

  /** Whether acks of so many runs ahead of the committed offset, or within attempts, have room. */
  hasRoomForHoles(runs: number): boolean {
    const { holes, attempts } = this.#account;
    if (runs * weights.hole > holes.room) return false;
    return !this.cursor.hasAttempts || runs * weights.attemptRun <= attempts.room;
  }

  /** The bytes that the account counts for the note of the cursor. */
  get noteBytes(): number {
    return this.#noteBytes;
  }

  /** Counts the note of the cursor, after a change of it. */
  recountNote(): void {
    if (this.#isClosed) return;
    this.#noteBytes = recounted(this.#account.notes, this.#noteBytes, noteBytes(this.cursor.metadata));
  }

  /** Counts what a member has for the cursor, which it holds or holds no more. */
  protected countHeld(isHeld: boolean): void {
    if (this.#isClosed || isHeld === this.#isHeld) return;
    this.#isHeld = isHeld;
    if (isHeld) this.#account.cursors.force(weights.heldCursor);
    else this.#account.cursors.give(weights.heldCursor);
  }

  #sum(): void {
    const { completedRecords, inFlightRecords } = this.cursor;
    if (completedRecords !== this.#completedRecords) {
      const acked = completedRecords - this.#completedRecords;
      this.#consumption.completedRecords += acked;
      this.#consumption.ackedRecords += acked;
      this.#completedRecords = completedRecords;
    }
    if (inFlightRecords !== this.#inFlightRecords) {
      this.#consumption.inFlightRecords += inFlightRecords - this.#inFlightRecords;
      this.#inFlightRecords = inFlightRecords;
    }
  }

  /** Gives everything back, and counts nothing any more. */
  protected endCount(): void {
    const { cursors, deliveries, holes, attempts, notes } = this.#account;
    this.forgetGap();
    this.#isClosed = true;
    deliveries.give(this.#deliveryBytes);
    if (this.#isHeld) cursors.give(weights.heldCursor);
    holes.give(this.#holeBytes);
    attempts.give(this.#attemptBytes);
    notes.give(this.#noteBytes);
  }
}

function deliveryBytesOf({ inFlight, refusedRuns }: Cursor): number {
  return inFlight.pieces * weights.deliveredRun + inFlight.sizeBytes + refusedRuns * weights.refusedRun;
}
