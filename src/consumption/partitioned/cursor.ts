import assert from 'node:assert/strict';
import { Progress } from '../offsets/progress.ts';
import type { OffsetRuns } from '../offsets/runs.ts';
import type { CursorDelta, CursorSnapshot } from '../offsets/snapshot.ts';
import { InFlight } from './in-flight.ts';
import { backoffMs, type Pause } from './pause.ts';
import { nothing, type BytesOf, type Freed } from './pieces.ts';
import { Position, type CursorBounds, type NextDelivery } from './position.ts';
import { RefusedRecords } from './refused.ts';

export type { OffsetRuns } from '../offsets/runs.ts';
export { begunAt, laterOf, mergeDelta } from '../offsets/snapshot.ts';
export type { CommitMetadata, CursorDelta, CursorSnapshot } from '../offsets/snapshot.ts';
export type { Freed } from './pieces.ts';
export type { CursorBounds, NextDelivery } from './position.ts';

/** What an ack, nack or release did: what is no longer in flight, or why nothing happened. */
export interface Settled extends Freed {
  readonly status: 'OK' | 'ALREADY_ACKED' | 'UNKNOWN_OFFSET' | 'LEASE_EXPIRED';
}

/** Offsets that a client names: everything in flight up to one, or runs. */
export type Named = { readonly upTo: number } | { readonly runs: OffsetRuns };

/** Records that are MOVING: a settlement completes them, and memory follows when its outcome is known. */
export interface Moving {
  readonly runs: OffsetRuns;
  /** What the settlement makes durable. It names the incarnation. */
  readonly delta: CursorDelta;
}

const noRuns: OffsetRuns = [];

/**
 * What one group has consumed of one log, and what is being delivered of it. Deterministic, without I/O and without a clock; SPEC.md
 * beside it says what each input does.
 *
 * ```
 *   one offset:   waiting ──deliver──▶ in flight ────────ack────────▶ acked
 *                    ▲                    │  │                         ▲ ▲
 *                    │                    │  └─move─▶ MOVING ──moved───┘ │
 *                    ├─ nack · release · ─┘             │                │
 *                    │  lease over · given back · resent│                │
 *                    ├───────────── stays ──────────────┘                │
 *                    └───────────────────── late ack ────────────────────┘
 * ```
 *
 *  1. An acked offset is never delivered again, and never un-acked, until the cursor is reset.
 *  2. An offset is in flight at most once.
 *  3. Offsets go out in order; a rewind starts again at its lowest offset.
 *  4. committedOffset is the lowest offset that is not acked.
 *  5. The records and bytes given back are exactly those that were handed out.
 *  6. A refused ack changes nothing.
 *  7. The snapshot is the merge of all deltas, in any order, however often.
 *  8. At most `inFlightRecordsMax` records are in flight.
 *  9. Nothing that was said before a reset says anything after it.
 * 10. durableOffset is never ahead of what the written deltas say, nor of committedOffset.
 * 11. A cumulative ack never acks a record that the present holder has refused.
 * 12. A MOVING record leaves that state by `moved` or `stays` alone, and nothing behind it goes out before.
 */
export class Cursor {
  readonly #progress: Progress;
  readonly #inFlight = new InFlight();
  readonly #position: Position;
  /** What the present holder has refused; null until it refuses for the first time. */
  #refused: RefusedRecords | null = null;

  constructor(snapshot: CursorSnapshot, bounds: CursorBounds) {
    this.#progress = new Progress(snapshot);
    this.#position = new Position(this.#progress, this.#inFlight, bounds);
  }

  /** The next offset to be read by a group that had lost everything in flight: all below is acked. */
  get committedOffset(): number {
    return this.#progress.committedOffset;
  }

  /**
   * The committed offset as it is durable: what clients may be told. The other one may have gone ahead of it, by acks whose round is
   * still being written, and of which a crash leaves nothing.
   */
  get durableOffset(): number {
    return this.#progress.durableOffset;
  }

  /** How often it was begun anew. */
  get resets(): number {
    return this.#progress.resets;
  }

  /** What was noted with the last commit; empty if nothing was. */
  get metadata(): string {
    return this.#progress.metadata;
  }

  get inFlightRecords(): number {
    return this.#inFlight.records;
  }

  get inFlightBytes(): number {
    return this.#inFlight.bytes;
  }

  /** Whether any un-acked record has an ended attempt: if not, every delivery is a first attempt. */
  get hasAttempts(): boolean {
    return this.#progress.attempts.any;
  }

  /** The number of the attempt that a delivery of the record is. */
  attemptOf(offset: number): number {
    return this.#progress.attempts.of(offset) + 1;
  }

  /** Records that the group has not acked, below the end of the log. */
  lag(endOffset: number): number {
    return this.#progress.lag(endOffset);
  }

  /** The longest run that may go next as one message, or what stands against it. */
  next(endOffset: number, nowMs: number): NextDelivery {
    return this.#position.next(endOffset, nowMs);
  }

  /** first … last have gone out, as `next` said or fewer. */
  deliver(first: number, last: number, bytesOf: BytesOf, leaseUntilMs: number | null): void {
    this.#position.deliver(first, last);
    this.#inFlight.add(first, last, bytesOf, leaseUntilMs);
  }

  /** Acks everything up to the offset, including it; nothing, if that passes a refused or MOVING record. */
  ackUpTo(offset: number): Settled {
    if (offset < this.committedOffset) return refused('ALREADY_ACKED');
    if (this.#namesUnknown(this.committedOffset, offset)) return refused('UNKNOWN_OFFSET');
    const passes = Math.min(this.#refused?.lowest ?? Infinity, this.#inFlight.lowestMoving) <= offset;
    return passes ? refused('UNKNOWN_OFFSET') : this.#ackBelow(offset + 1);
  }

  /** Acks everything below the offset, whoever had it: for a log that nobody holds. Nothing, if that passes a MOVING record. */
  advance(offset: number): Settled {
    if (this.#inFlight.lowestMoving < offset) return refused('UNKNOWN_OFFSET');
    this.#position.handOutBelow(offset);
    return offset <= this.committedOffset ? refused('ALREADY_ACKED') : this.#ackBelow(offset);
  }

  /** Notes something with the committed offset, instead of what was noted before. */
  annotate(text: string): void {
    this.#progress.annotate(text);
  }

  /** Begins anew at the offset, which is durable already: nothing acked, attempted or noted. Nothing may be in flight. */
  reset(offset: number, resets: number): void {
    assert(this.#inFlight.records === 0, 'a cursor with records in flight cannot begin anew');
    assert(resets > this.resets, `incarnation ${resets} is not later than ${this.resets}`);
    this.#progress.reset(offset, resets);
    this.#position.begin();
    this.#position.endPause();
    this.#refused = null;
  }

  /** Acks runs: all of them, or none. */
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
   * Refuses what is named: the log goes back to the lowest of it and starts again there after the delay (null: a
   * backoff that doubles with each attempt). What is named counts an attempt, what is in flight behind it does not.
   */
  nack(named: Named, delayMs: number | null, nowMs: number): Settled {
    const found = this.#refuse(named);
    if (typeof found === 'string') return refused(found);
    for (const run of found) this.#progress.attempts.count(run.first, run.last);
    const lowest = found[0]!.first;
    const untilMs = nowMs + (delayMs ?? backoffMs(this.attemptOf(lowest) - 1));
    this.#position.pause(found, untilMs, nowMs);
    return { status: 'OK', ...this.#rewind(lowest) };
  }

  /** Gives back what is named, and what is in flight behind it, without an attempt: it goes out again at once. */
  release(named: Named, _nowMs: number): Settled {
    const found = this.#refuse(named);
    return typeof found === 'string' ? refused(found) : { status: 'OK', ...this.#rewind(found[0]!.first) };
  }

  /** OK: the holder has all of the runs in flight, so `move` may take them. Else why not. */
  mayMove(runs: OffsetRuns): Settled['status'] {
    return this.#refusal(runs) ?? (this.#inFlight.holdsAll(runs) ? 'OK' : 'LEASE_EXPIRED');
  }

  /**
   * The records of the runs, all of which the holder has in flight, are MOVING from now on: a settlement completes them.
   * Until `moved` or `stays` they count as in flight, and no input of the holder or of the clock concerns them.
   */
  move(runs: OffsetRuns): Moving {
    this.#inFlight.move(runs);
    const moved = [...runs];
    const { resets, durableOffset } = this.#progress;
    return {
      runs: moved,
      delta: { resets, committedOffset: durableOffset, acked: moved, attempts: noRuns, metadata: null },
    };
  }

  /** The settlement is durable, and with it `delta`: the records are acked. What is freed was the holder's at the move. */
  moved({ runs }: Moving): Freed {
    const freed = this.#inFlight.endMove(runs);
    this.#progress.ackDurableRuns(runs);
    this.#acked(runs);
    return freed;
  }

  /**
   * The settlement came to nothing: the records go out again, and with them what is in flight behind the lowest, as after a
   * release. What is freed was the holder's at the move.
   */
  stays({ runs }: Moving): Freed {
    const freed = this.#inFlight.endMove(runs);
    for (let at = 0; at < runs.length; at += 2) {
      // A holder that came since the move has not had them: they wait for it like all others.
      this.#refuseRun(runs[at]!, Math.min(runs[at + 1]!, this.#position.handedOut - 1));
    }
    const behind = this.#rewind(runs[0]!);
    return { records: freed.records + behind.records, bytes: freed.bytes + behind.bytes };
  }

  /** The holder has lost the log: the next one begins at the committed offset, and only what it gets itself may it ack. */
  giveBackAll(countAttempt: boolean): Freed {
    const freed = this.#inFlight.remove(0, Infinity, (first, last) => {
      if (countAttempt) this.#progress.attempts.count(first, last);
    });
    this.#position.begin();
    this.#refused = null;
    return freed;
  }

  /** A new stream of the same holder: everything un-acked goes out again, as the same attempt. */
  resend(): Freed {
    this.#position.resend();
    return this.#inFlight.records === 0 ? nothing : this.#inFlight.remove(0, Infinity);
  }

  /** What has a lease that is over goes out again, as the next attempt. */
  expireLeases(nowMs: number): Freed {
    let records = 0;
    let bytes = 0;
    for (const { first, last } of this.#inFlight.expired(nowMs)) {
      const freed = this.#inFlight.remove(first, last);
      records += freed.records;
      bytes += freed.bytes;
      this.#progress.attempts.count(first, last);
      this.#refuseRun(first, last);
      this.#position.rewind(first);
    }
    return { records, bytes };
  }

  /** When the first lease is over; null if there is none. The end of a retry's delay is said by `next`. */
  nextDeadlineMs(): number | null {
    return this.#inFlight.nextLeaseMs();
  }

  /** What is to be made durable since the last delta; null if nothing is. */
  takeDelta(): CursorDelta | null {
    return this.#progress.takeDelta();
  }

  /** A delta is durable. One of an earlier incarnation says nothing any more. */
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

  /** The runs are acked, and everything below the committed offset. */
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

  /** Whether first … last has an offset that is neither acked nor was handed out to the present holder. */
  #namesUnknown(first: number, last: number): boolean {
    const from = Math.max(first, this.#position.handedOut);
    return from <= last && !this.#progress.isAcked(from, last);
  }

  /**
   * What is named is refused from now on, also what is back already: its handler may have failed
   * all the same. @returns what of it is in flight, ascending; or why there is nothing.
   */
  #refuse(named: Named): Pause['runs'] | Exclude<Settled['status'], 'OK'> {
    const runs = 'upTo' in named ? [Math.min(this.committedOffset, named.upTo), named.upTo] : named.runs;
    const refusal = this.#refusal(runs);
    if (refusal !== null) return refusal;
    for (let at = 0; at < runs.length; at += 2) this.#refuseRun(runs[at]!, runs[at + 1]!);
    const found = this.#inFlight.among(runs);
    return found.length === 0 ? 'LEASE_EXPIRED' : found;
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

function refused(status: Settled['status']): Settled {
  return { status, records: 0, bytes: 0 };
}
