import assert from 'node:assert/strict';
import { limits } from '../../limits/limits.ts';
import { Attempts } from '../offsets/attempts.ts';
import { InFlight, nothing, type BytesOf, type Freed } from './in-flight.ts';
import { backoffMs, prolonged, type Pause } from './pause.ts';
import { RefusedRecords } from './refused.ts';
import { addRun, countOf, coversRun, cutBelow, runFrom, type OffsetRuns } from '../offsets/runs.ts';
import type { CommitMetadata, CursorDelta, CursorSnapshot } from '../offsets/snapshot.ts';

export type { OffsetRuns } from '../offsets/runs.ts';
export { begunAt, laterOf, mergeDelta } from '../offsets/snapshot.ts';
export type { CommitMetadata, CursorDelta, CursorSnapshot } from '../offsets/snapshot.ts';

/** From this attempt on a record is handed out alone, so that a poison message does not take its neighbours along. */
const aloneFromAttempt = 3;

/** What an ack, nack or release did: what is no longer in flight, or why nothing happened. */
export interface Settled extends Freed {
  readonly status: 'OK' | 'ALREADY_ACKED' | 'UNKNOWN_OFFSET' | 'LEASE_EXPIRED';
}

/** Offsets that a client names: everything in flight up to one, or runs. */
export type Named = { readonly upTo: number } | { readonly runs: OffsetRuns };

export type NextDelivery =
  | { readonly type: 'deliver'; readonly first: number; readonly last: number }
  | { readonly type: 'blocked'; readonly on: 'RETRY' | 'WINDOW' | 'CAUGHT_UP'; readonly untilMs?: number };

const noRuns: OffsetRuns = [];

/**
 * What one group has consumed of one log, and what is being delivered of it. Deterministic, without I/O and without a clock; SPEC.md
 * beside it says what each input does.
 *
 * ```
 *   one offset:   waiting ──deliver──▶ in flight ──ack──▶ acked
 *                    ▲                    │                 ▲
 *                    └─ nack · release · ─┘                 │
 *                       lease over · given back · resent    │
 *                    └──────── late ack ────────────────────┘
 * ```
 *
 *  1. An acked offset is never delivered again, and never un-acked, until the cursor is reset.
 *  2. An offset is in flight at most once.
 *  3. Offsets go out in order; a rewind starts again at its lowest offset.
 *  4. committedOffset is the lowest offset that is not acked.
 *  5. The records and bytes given back are exactly those that were handed out.
 *  6. A refused ack changes nothing.
 *  7. The snapshot is the merge of all deltas, in any order, however often.
 *  8. At most `limits.cursorInFlightRecordsMax` records are in flight.
 *  9. Nothing that was said before a reset says anything after it.
 * 10. durableOffset is never ahead of what the written deltas say, nor of committedOffset.
 * 11. A cumulative ack never acks a record that the present holder has refused.
 */
export class Cursor {
  #resets: number;
  #committed: number;
  /** As far as it is known to be durable. */
  #durable: number;
  #acked: number[];
  #ackedCount: number;
  #metadata: CommitMetadata | null;
  readonly #attempts: Attempts;
  readonly #inFlight = new InFlight();
  /** Where delivery goes on; what is acked or in flight behind it is skipped. */
  #position: number;
  /** Everything below was handed out to the present holder, or is acked: only that may be acked. */
  #handedOut: number;
  /** Nothing goes out before: records were refused. */
  #pause: Pause | null = null;
  /** What the present holder has refused; null until it refuses for the first time. */
  #refused: RefusedRecords | null = null;
  /** Since the last delta. */
  #toldCommitted: number;
  #newlyAcked: number[] = [];
  #metadataIsNew = false;

  constructor(snapshot: CursorSnapshot) {
    this.#resets = snapshot.resets;
    this.#metadata = snapshot.metadata;
    this.#committed = this.#position = this.#handedOut = this.#toldCommitted = snapshot.committedOffset;
    this.#durable = this.#committed;
    this.#acked = [...snapshot.acked];
    this.#ackedCount = countOf(snapshot.acked);
    this.#attempts = new Attempts(snapshot.attempts);
  }

  /** The next offset to be read by a group that had lost everything in flight: all below is acked. */
  get committedOffset(): number {
    return this.#committed;
  }

  /**
   * The committed offset as it is durable: what clients may be told. The other one may have gone ahead of it, by acks whose round is
   * still being written, and of which a crash leaves nothing.
   */
  get durableOffset(): number {
    return this.#durable;
  }

  /** How often it was begun anew. */
  get resets(): number {
    return this.#resets;
  }

  /** What was noted with the last commit; empty if nothing was. */
  get metadata(): string {
    return this.#metadata?.text ?? '';
  }

  get inFlightRecords(): number {
    return this.#inFlight.records;
  }

  get inFlightBytes(): number {
    return this.#inFlight.bytes;
  }

  /** Whether any un-acked record has an ended attempt: if not, every delivery is a first attempt. */
  get hasAttempts(): boolean {
    return this.#attempts.any;
  }

  /** The number of the attempt that a delivery of the record is. */
  attemptOf(offset: number): number {
    return this.#attempts.of(offset) + 1;
  }

  /** Records that the group has not acked, below the end of the log. */
  lag(endOffset: number): number {
    return Math.max(0, endOffset - this.#committed - this.#ackedCount);
  }

  /** The longest run that may go next as one message, or what stands against it. */
  next(endOffset: number, nowMs: number): NextDelivery {
    if (this.#pause !== null) {
      if (nowMs < this.#pause.untilMs) return { type: 'blocked', on: 'RETRY', untilMs: this.#pause.untilMs };
      this.#pause = null;
    }
    const first = this.#skip(this.#position);
    if (first >= endOffset) return { type: 'blocked', on: 'CAUGHT_UP' };
    const room = limits.cursorInFlightRecordsMax - this.#inFlight.records;
    if (room <= 0 || this.#tooManyHoles(first)) return { type: 'blocked', on: 'WINDOW' };
    return { type: 'deliver', first, last: this.#lastTogether(first, Math.min(endOffset, first + room) - 1) };
  }

  /** first … last have gone out, as `next` said or fewer. */
  deliver(first: number, last: number, bytesOf: BytesOf, leaseUntilMs: number | null): void {
    assert(first === this.#skip(this.#position) && last >= first, `${first} to ${last} is not what goes next`);
    assert((this.#inFlight.at(first)?.first ?? Infinity) > last, `${first} to ${last} is in flight already`);
    this.#inFlight.add(first, last, bytesOf, leaseUntilMs);
    this.#position = last + 1;
    this.#handedOut = Math.max(this.#handedOut, last + 1);
  }

  /** Acks everything up to the offset, including it; nothing, if that passes a refused record. */
  ackUpTo(offset: number): Settled {
    if (offset < this.#committed) return refused('ALREADY_ACKED');
    if (this.#namesUnknown(this.#committed, offset)) return refused('UNKNOWN_OFFSET');
    return this.#refused !== null && this.#refused.lowest <= offset
      ? refused('UNKNOWN_OFFSET')
      : this.#ackBelow(offset + 1);
  }

  /** Acks everything below the offset, whoever had it: for a log that nobody holds. */
  advance(offset: number): Settled {
    this.#handedOut = Math.max(this.#handedOut, offset);
    return offset <= this.#committed ? refused('ALREADY_ACKED') : this.#ackBelow(offset);
  }

  /** Notes something with the committed offset, instead of what was noted before. */
  annotate(text: string): void {
    this.#metadata = { seq: (this.#metadata?.seq ?? 0) + 1, text };
    this.#metadataIsNew = true;
  }

  /** Begins anew at the offset, which is durable already: nothing acked, attempted or noted. Nothing may be in flight. */
  reset(offset: number, resets: number): void {
    assert(this.#inFlight.records === 0, 'a cursor with records in flight cannot begin anew');
    assert(resets > this.#resets, `incarnation ${resets} is not later than ${this.#resets}`);
    this.#resets = resets;
    this.#committed = this.#position = this.#handedOut = this.#toldCommitted = offset;
    this.#durable = offset;
    this.#acked = [];
    this.#ackedCount = 0;
    this.#attempts.clear();
    this.#metadata = null;
    this.#pause = null;
    this.#refused = null;
    this.#newlyAcked = [];
    this.#metadataIsNew = false;
  }

  /** Acks runs: all of them, or none. */
  ackRuns(runs: OffsetRuns): Settled {
    const refusal = this.#refusal(runs);
    if (refusal !== null) return refused(refusal);
    let records = 0;
    let bytes = 0;
    for (let at = 0; at < runs.length; at += 2) {
      const first = Math.max(runs[at]!, this.#committed);
      const last = runs[at + 1]!;
      if (last < first) continue;
      const freed = this.#inFlight.remove(first, last);
      records += freed.records;
      bytes += freed.bytes;
      this.#ackedCount += addRun(this.#acked, first, last);
      addRun(this.#newlyAcked, first, last);
      this.#refused?.forget(first, last);
    }
    this.#commit(this.#committed);
    return { status: 'OK', records, bytes };
  }

  /**
   * Refuses what is named: the log goes back to the lowest of it and starts again there after the delay (null: a
   * backoff that doubles with each attempt). What is named counts an attempt, what is in flight behind it does not.
   */
  nack(named: Named, delayMs: number | null, nowMs: number): Settled {
    const found = this.#refuse(named);
    if (typeof found === 'string') return refused(found);
    for (const run of found) this.#attempts.count(run.first, run.last);
    const lowest = found[0]!.first;
    const untilMs = nowMs + (delayMs ?? backoffMs(this.attemptOf(lowest) - 1));
    this.#pause = prolonged(this.#pause, found, untilMs, nowMs);
    return this.#rewind(lowest);
  }

  /** Gives back what is named, and what is in flight behind it, without an attempt: it goes out again at once. */
  release(named: Named, _nowMs: number): Settled {
    const found = this.#refuse(named);
    return typeof found === 'string' ? refused(found) : this.#rewind(found[0]!.first);
  }

  /** The holder has lost the log: the next one begins at the committed offset, and only what it gets itself may it ack. */
  giveBackAll(countAttempt: boolean): Freed {
    const freed = this.#inFlight.remove(0, Infinity, (first, last) => {
      if (countAttempt) this.#attempts.count(first, last);
    });
    this.#position = this.#handedOut = this.#committed;
    this.#refused = null;
    return freed;
  }

  /** A new stream of the same holder: everything un-acked goes out again, as the same attempt. */
  resend(): Freed {
    this.#position = this.#committed;
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
      this.#attempts.count(first, last);
      (this.#refused ??= new RefusedRecords()).add(first, last, noRuns);
      this.#position = Math.min(this.#position, first);
    }
    return { records, bytes };
  }

  /** When the first lease is over; null if there is none. The end of a retry's delay is said by `next`. */
  nextDeadlineMs(): number | null {
    return this.#inFlight.nextLeaseMs();
  }

  /** What is to be made durable since the last delta; null if nothing is. */
  takeDelta(): CursorDelta | null {
    const unchanged = this.#committed === this.#toldCommitted && this.#newlyAcked.length === 0;
    if (unchanged && !this.#attempts.anyNew && !this.#metadataIsNew) return null;
    cutBelow(this.#newlyAcked, this.#committed);
    const delta = {
      resets: this.#resets,
      committedOffset: this.#committed,
      // Nearly always none: a new array in each of a million cursors is work for the collector.
      acked: this.#newlyAcked.length === 0 ? noRuns : this.#newlyAcked.splice(0),
      attempts: this.#attempts.takeNew(this.#committed, this.#acked),
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
      attempts: this.#attempts.flat(this.#committed, this.#acked),
      metadata: this.#metadata,
    };
  }

  /** The first offset from `offset` on that is neither acked nor in flight. */
  #skip(offset: number): number {
    let free = Math.max(offset, this.#committed);
    for (;;) {
      const run = runFrom(this.#acked, free);
      if (run < this.#acked.length && this.#acked[run]! <= free) {
        free = this.#acked[run + 1]! + 1;
        continue;
      }
      const piece = this.#inFlight.at(free);
      if (piece === undefined || piece.first > free) return free;
      free = piece.last + 1;
    }
  }

  /** Holes close by what lies between them: that may still go out, only nothing behind the last of them. */
  #tooManyHoles(first: number): boolean {
    return this.#acked.length >= limits.cursorRangesMax * 2 && first > this.#acked.at(-1)!;
  }

  #lastTogether(first: number, last: number): number {
    const run = runFrom(this.#acked, first);
    if (run < this.#acked.length) last = Math.min(last, this.#acked[run]! - 1);
    const piece = this.#inFlight.at(first);
    if (piece !== undefined) last = Math.min(last, piece.first - 1);
    if (!this.#attempts.any) return last;
    if (this.attemptOf(first) >= aloneFromAttempt) return first;
    return (this.#attempts.lowest(first + 1, last, aloneFromAttempt - 1) ?? last + 1) - 1;
  }

  #ackBelow(offset: number): Settled {
    const freed = this.#inFlight.remove(this.#committed, offset - 1);
    this.#commit(offset);
    return { status: 'OK', ...freed };
  }

  /** Everything below `offset` is acked, and what was acked beyond it may now follow on. */
  #commit(offset: number): void {
    this.#ackedCount -= countOf(this.#acked);
    cutBelow(this.#acked, offset);
    if (this.#acked[0] === offset) {
      offset = this.#acked[1]! + 1;
      this.#acked.splice(0, 2);
    }
    this.#ackedCount = countOf(this.#acked);
    this.#committed = offset;
    this.#position = Math.max(this.#position, offset);
    this.#refused?.forgetBelow(offset);
    if (this.#attempts.any) this.#attempts.forget((of) => this.#isAcked(of, of));
    // What the log waited for is acked after all: a pause may be long, and nothing needs it any more.
    if (this.#pause?.runs.every(({ first, last }) => this.#isAcked(first, last)) === true) this.#pause = null;
  }

  #refusal(runs: OffsetRuns): 'UNKNOWN_OFFSET' | 'ALREADY_ACKED' | null {
    let allAcked = true;
    for (let at = 0; at < runs.length; at += 2) {
      if (this.#namesUnknown(runs[at]!, runs[at + 1]!)) return 'UNKNOWN_OFFSET';
      allAcked &&= this.#isAcked(runs[at]!, runs[at + 1]!);
    }
    return allAcked ? 'ALREADY_ACKED' : null;
  }

  /** Whether first … last has an offset that is neither acked nor was handed out to the present holder. */
  #namesUnknown(first: number, last: number): boolean {
    const from = Math.max(first, this.#handedOut);
    return from <= last && !this.#isAcked(from, last);
  }

  #isAcked(first: number, last: number): boolean {
    return last < this.#committed || coversRun(this.#acked, Math.max(first, this.#committed), last);
  }

  /**
   * What is named is refused from now on, also what is back already: its handler may have failed
   * all the same. @returns what of it is in flight, ascending; or why there is nothing.
   */
  #refuse(named: Named): Pause['runs'] | Exclude<Settled['status'], 'OK'> {
    const runs = 'upTo' in named ? [Math.min(this.#committed, named.upTo), named.upTo] : named.runs;
    const refusal = this.#refusal(runs);
    if (refusal !== null) return refusal;
    const of = (this.#refused ??= new RefusedRecords());
    for (let at = 0; at < runs.length; at += 2)
      of.add(Math.max(runs[at]!, this.#committed), runs[at + 1]!, this.#acked);
    const found = this.#inFlight.among(runs);
    return found.length === 0 ? 'LEASE_EXPIRED' : found;
  }

  #rewind(lowest: number): Settled {
    const freed = this.#inFlight.remove(lowest, Infinity);
    this.#position = Math.min(this.#position, lowest);
    return { status: 'OK', ...freed };
  }
}

function refused(status: Settled['status']): Settled {
  return { status, records: 0, bytes: 0 };
}
