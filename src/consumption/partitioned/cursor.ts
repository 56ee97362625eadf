import assert from 'node:assert/strict';
import { Progress } from '../offsets/progress.ts';
import { joined, type OffsetRuns } from '../offsets/runs.ts';
import type { CursorDelta, CursorSnapshot } from '../offsets/snapshot.ts';
import { InFlight } from './in-flight.ts';
import { backoffMs } from './pause.ts';
import { nothing, type Freed, type RecordSizes } from './pieces.ts';
import { Position, type CursorBounds, type NextDelivery } from './position.ts';
import { RefusedRecords } from './refused.ts';
import { refused, type Named, type Settled } from './settled.ts';
import { present } from '../../errors/present.ts';

export type { OffsetRuns } from '../offsets/runs.ts';
export { begunAt, laterOf, mergeDelta } from '../offsets/snapshot.ts';
export type { CommitMetadata, CursorDelta, CursorSnapshot } from '../offsets/snapshot.ts';
export type { Freed, RecordSizes } from './pieces.ts';
export type { CursorBounds, NextDelivery } from './position.ts';

const refusedSome = 'a NACK or RELEASE that is accepted names records in flight';

/** MOVING records: a settlement completes them, and memory follows when its outcome is known. */
interface Moving {
  readonly runs: OffsetRuns;
  /** The acks that the settlement makes durable. */
  readonly delta: CursorDelta;
}

const noRuns: OffsetRuns = [];

/**
 * The progress of one group in one log, and its deliveries to the member that holds the log (the
 * holder). The cursor is deterministic, without I/O and without a clock. SPEC.md beside this file
 * defines each input.
 *
 * ```
 *   one offset:   waiting ──deliver──▶ in flight ────────ack────────▶ acked
 *                    ▲                    │  │                         ▲ ▲
 *                    │                    │  └─move─▶ MOVING ──moved───┘ │
 *                    ├─ NACK · release · ─┘             │                │
 *                    │  lease over · given back · resent│                │
 *                    ├───────────── stays ──────────────┘                │
 *                    └───────────────────── late ack ────────────────────┘
 * ```
 *
 *  1. An acked offset is never delivered again, and never un-acked, until the cursor is reset.
 *  2. An offset is in flight at most once.
 *  3. Offsets go out in order; a rewind starts again at its lowest offset.
 *  4. committedOffset is the lowest offset that is not acked.
 *  5. The records and bytes that come back are exactly those that were delivered.
 *  6. A rejected ack changes nothing.
 *  7. The snapshot is the merge of all deltas, in any order, however often.
 *  8. At most `inFlightRecordsMax` records are in flight.
 *  9. Deltas and snapshots of an incarnation do not count after its reset.
 * 10. durableOffset is never ahead of the written deltas, nor of committedOffset.
 * 11. A cumulative ack never acks a record that the current holder has refused.
 * 12. Only `moved` and `stays` end the state MOVING. Nothing behind a MOVING record goes out.
 */
export class Cursor {
  readonly #progress: Progress;
  readonly #inFlight = new InFlight();
  readonly #position: Position;
  /** The un-acked records that the current holder has refused; null before the first one. */
  #refused: RefusedRecords | null = null;

  constructor(snapshot: CursorSnapshot, bounds: CursorBounds) {
    this.#progress = new Progress(snapshot, bounds.attemptRunsMax);
    this.#position = new Position(this.#progress, this.#inFlight, bounds);
  }

  /** The lowest offset that is not acked. */
  get committedOffset(): number {
    return this.#progress.committedOffset;
  }

  /**
   * The durable committed offset, which answers to clients name. `committedOffset` may be ahead of
   * it by acks whose round is still being written, and which a crash would lose.
   */
  get durableOffset(): number {
    return this.#progress.durableOffset;
  }

  /** The number of resets: the incarnation of the cursor. */
  get resets(): number {
    return this.#progress.resets;
  }

  /** The note of the last commit; empty if it had none. */
  get metadata(): string {
    return this.#progress.metadata;
  }

  /** The number of runs acked ahead of the committed offset. */
  get holes(): number {
    return this.#progress.acked.length / 2;
  }

  /** The number of runs of records with the same number of ended attempts. */
  get attemptRuns(): number {
    return this.#progress.attempts.runs;
  }

  /** How many more holes, runs of attempts and pieces (fewer if negative) an ack may leave. */
  ackGrowth(runs: OffsetRuns): { readonly holes: number; readonly attempts: number; readonly pieces: number } {
    const { attempts } = this.#progress;
    const pieces = this.#inFlight.growthBy(runs);
    return { holes: this.#progress.holeGrowth(runs), attempts: attempts.splitsOf(runs), pieces };
  }

  /** How many more runs there may be when attempts of the named records in flight are counted. */
  attemptGrowth(named: Named): number {
    return this.#progress.attempts.growthOf(joined(this.#inFlight.among(this.#runsOf(named))));
  }

  /** What the records in flight take in memory. */
  get inFlight(): Pick<InFlight, 'pieces' | 'sizeBytes'> {
    return this.#inFlight;
  }

  /** The runs of records that were refused, and of those for which the cursor pauses. */
  get refusedRuns(): number {
    return (this.#refused?.count ?? 0) + this.#position.pausedRuns;
  }

  get inFlightRecords(): number {
    return this.#inFlight.records;
  }

  get inFlightBytes(): number {
    return this.#inFlight.bytes;
  }

  /** Whether an un-acked record has an ended attempt. If not, every delivery is a first attempt. */
  get hasAttempts(): boolean {
    return this.#progress.attempts.any;
  }

  /** The attempt number of the next delivery of the record, or of the one in flight. */
  attemptOf(offset: number): number {
    return this.#progress.attempts.of(offset) + 1;
  }

  get completedRecords(): number {
    return this.#progress.completedRecords;
  }

  /** The number of un-acked records below the end of the log. */
  lag(endOffset: number): number {
    return this.#progress.lag(endOffset);
  }

  /** The longest run that may go next as one message, or what blocks it. */
  next(endOffset: number, nowMs: number): NextDelivery {
    return this.#position.next(endOffset, nowMs);
  }

  /** Puts first … last in flight: the run that `next` has named, or its beginning. */
  deliver(first: number, last: number, sizes: RecordSizes, leaseUntilMs: number | null): void {
    this.#position.deliver(first, last);
    this.#inFlight.add(first, last, sizes, leaseUntilMs);
  }

  /** Acks everything up to and including the offset. It does not pass refused or MOVING records. */
  ackUpTo(offset: number): Settled {
    if (offset < this.committedOffset) return refused('ALREADY_ACKED');
    if (this.#namesUnknown(this.committedOffset, offset)) return refused('UNKNOWN_OFFSET');
    const passes = Math.min(this.#refused?.lowest ?? Infinity, this.#inFlight.lowestMoving) <= offset;
    return passes ? refused('UNKNOWN_OFFSET') : this.#ackBelow(offset + 1);
  }

  /**
   * Acks everything below the offset, delivered or not, in a log without a holder. Rejected if that
   * passes a MOVING record.
   */
  advance(offset: number): Settled {
    if (this.#inFlight.lowestMoving < offset) return refused('UNKNOWN_OFFSET');
    this.#position.handOutBelow(offset);
    return offset <= this.committedOffset ? refused('ALREADY_ACKED') : this.#ackBelow(offset);
  }

  /** Replaces the note of the last commit. */
  annotate(text: string): void {
    this.#progress.annotate(text);
  }

  /**
   * Begins a later incarnation, which is durable already, at the offset: without acks, attempts or
   * a note. Nothing may be in flight.
   */
  reset(offset: number, resets: number): void {
    assert(this.#inFlight.records === 0, 'a cursor with records in flight cannot be reset');
    assert(resets > this.resets, `incarnation ${resets} is not later than ${this.resets}`);
    this.#progress.reset(offset, resets);
    this.#position.begin();
    this.#position.endPause();
    this.#refused = null;
  }

  /** Acks all of the runs, or none. */
  ackRuns(runs: OffsetRuns): Settled {
    const refusal = this.#refusal(runs);
    if (refusal !== null) return refused(refusal);
    let records = 0;
    let bytes = 0;
    for (let at = 0; at < runs.length; at += 2) {
      const freed = this.#inFlight.remove(runs[at]!, runs[at + 1]!);
      records += freed.records;
      bytes += freed.bytes;
    }
    this.#progress.ackRuns(runs);
    this.#acked(runs);
    return { status: 'OK', records, bytes };
  }

  /**
   * Counts a failed attempt of the named records, goes back to the lowest of them and pauses for
   * the delay (null: a backoff). Records in flight behind it come back without an attempt.
   */
  nack(named: Named, delayMs: number | null, nowMs: number): Settled {
    const found = this.#refuse(named);
    if (typeof found === 'string') return refused(found);
    const runs = joined(found);
    this.#progress.attempts.count(runs);
    const lowest = present(found[0], refusedSome).first;
    const untilMs = nowMs + (delayMs ?? backoffMs(this.attemptOf(lowest) - 1));
    this.#position.pause(runs, untilMs, nowMs);
    return { status: 'OK', ...this.#rewind(lowest) };
  }

  /** Gives back the named records and those in flight behind them, without attempt or pause. */
  release(named: Named, _nowMs: number): Settled {
    const found = this.#refuse(named);
    return typeof found === 'string'
      ? refused(found)
      : { status: 'OK', ...this.#rewind(present(found[0], refusedSome).first) };
  }

  /**
   * Whether `move` may take the runs: OK if the holder has all of them in flight, or else why not.
   */
  mayMove(runs: OffsetRuns): Settled['status'] {
    return this.#refusal(runs) ?? (this.#inFlight.holdsAll(runs) ? 'OK' : 'LEASE_EXPIRED');
  }

  /**
   * Makes the runs MOVING, all of which the holder has in flight, because a settlement completes
   * them. They stay in flight until `moved` or `stays`, and no call of the holder affects them.
   */
  move(runs: OffsetRuns): Moving {
    assert(runs.length > 0, 'a move has records');
    this.#inFlight.move(runs);
    const moved = [...runs];
    const { resets, durableOffset } = this.#progress;
    return {
      runs: moved,
      delta: { resets, committedOffset: durableOffset, acked: moved, attempts: noRuns, metadata: null },
    };
  }

  /**
   * Acks the records of a durable settlement, which contains `delta`. The records and bytes that it
   * frees belong to the member that was the holder at the move.
   */
  moved({ runs }: Moving): Freed {
    const freed = this.#inFlight.endMove(runs);
    this.#progress.ackDurableRuns(runs);
    this.#acked(runs);
    return freed;
  }

  /**
   * Gives back the records of a failed settlement, and those in flight behind them, like a release.
   * The records and bytes that it frees belong to the member that was the holder at the move.
   */
  stays({ runs }: Moving): Freed {
    const freed = this.#inFlight.endMove(runs);
    for (let at = 0; at < runs.length; at += 2) {
      // They are not refused for a holder that came after the move, because it has not had them.
      this.#refuseRun(runs[at]!, Math.min(runs[at + 1]!, this.#position.handedOut - 1));
    }
    const behind = this.#rewind(present(runs[0], 'a move has records'));
    return { records: freed.records + behind.records, bytes: freed.bytes + behind.bytes };
  }

  /**
   * Takes the log from its holder. The next holder begins at the committed offset, and may ack only
   * records that it gets itself.
   */
  giveBackAll(countAttempt: boolean): Freed {
    const held: { readonly first: number; readonly last: number }[] = [];
    const freed = this.#inFlight.remove(0, Infinity, (removed) => {
      if (countAttempt) held.push(removed);
    });
    this.#progress.attempts.count(joined(held));
    this.#position.begin();
    this.#refused = null;
    return freed;
  }

  /** Sends everything un-acked again, as the same attempt, to a new stream of the same holder. */
  resend(): Freed {
    this.#position.resend();
    return this.#inFlight.records === 0 ? nothing : this.#inFlight.remove(0, Infinity);
  }

  /** Takes back the records whose lease has expired, and counts the attempt or not. */
  expireLeases(nowMs: number, countAttempt = true): Freed {
    let records = 0;
    let bytes = 0;
    const expired = this.#inFlight.expired(nowMs);
    for (const { first, last } of expired) {
      const freed = this.#inFlight.remove(first, last);
      records += freed.records;
      bytes += freed.bytes;
      this.#refuseRun(first, last);
      this.#position.rewind(first);
    }
    if (countAttempt) this.#progress.attempts.count(joined(expired));
    return { records, bytes };
  }

  /** When the first lease expires; null without leases. The end of a pause comes with `next`. */
  nextDeadlineMs(): number | null {
    return this.#inFlight.nextLeaseMs();
  }

  /** What has changed since the last delta and must become durable; null if nothing has changed. */
  takeDelta(): CursorDelta | null {
    return this.#progress.takeDelta();
  }

  /** Raises the durable offset to that of a written delta of the same incarnation. */
  written(delta: CursorDelta): void {
    this.#progress.written(delta);
  }

  snapshot(): CursorSnapshot {
    return this.#progress.snapshot();
  }

  #ackBelow(offset: number): Settled {
    const freed = this.#inFlight.remove(this.committedOffset, offset - 1);
    this.#progress.ackBelow(offset);
    this.#acked(noRuns);
    return { status: 'OK', ...freed };
  }

  /** Forgets refusals of the acked runs, and of everything below the committed offset. */
  #acked(runs: OffsetRuns): void {
    if (this.#refused !== null) {
      for (let at = 0; at < runs.length; at += 2) this.#refused.forget(runs[at]!, runs[at + 1]!);
      this.#refused.forgetBelow(this.committedOffset);
    }
    this.#position.acked();
  }

  #refusal(runs: OffsetRuns): 'UNKNOWN_OFFSET' | 'ALREADY_ACKED' | null {
    let allAcked = true;
    for (let at = 0; at < runs.length; at += 2) {
      if (this.#namesUnknown(runs[at]!, runs[at + 1]!)) return 'UNKNOWN_OFFSET';
      if (this.#inFlight.anyMoving(runs[at]!, runs[at + 1]!)) return 'UNKNOWN_OFFSET';
      allAcked &&= this.#progress.isAcked(runs[at]!, runs[at + 1]!);
    }
    return allAcked ? 'ALREADY_ACKED' : null;
  }

  /** Whether an offset of first … last is neither acked nor delivered to the current holder. */
  #namesUnknown(first: number, last: number): boolean {
    const from = Math.max(first, this.#position.handedOut);
    return from <= last && !this.#progress.isAcked(from, last);
  }

  /**
   * Marks the named records as refused. Records that came back before count too, because their
   * handler may have failed. @returns those in flight, ascending, or why there are none.
   */
  #refuse(named: Named): ReturnType<InFlight['among']> | Exclude<Settled['status'], 'OK'> {
    const runs = this.#runsOf(named);
    const refusal = this.#refusal(runs);
    if (refusal !== null) return refusal;
    for (let at = 0; at < runs.length; at += 2) this.#refuseRun(runs[at]!, runs[at + 1]!);
    const found = this.#inFlight.among(runs);
    return found.length === 0 ? 'LEASE_EXPIRED' : found;
  }

  #runsOf(named: Named): OffsetRuns {
    return 'upTo' in named ? [Math.min(this.committedOffset, named.upTo), named.upTo] : named.runs;
  }

  #refuseRun(first: number, last: number): void {
    const unacked = Math.max(first, this.committedOffset);
    (this.#refused ??= new RefusedRecords()).add(unacked, last, this.#progress.acked);
  }

  #rewind(lowest: number): Freed {
    const freed = this.#inFlight.remove(lowest, Infinity);
    this.#position.rewind(lowest);
    return freed;
  }
}
