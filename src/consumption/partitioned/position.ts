import assert from 'node:assert/strict';
import type { Progress } from '../offsets/progress.ts';
import { runFrom } from '../offsets/runs.ts';
import type { InFlight } from './in-flight.ts';
import { prolonged, type Pause } from './pause.ts';

/** From this attempt on a record is handed out alone, so that a poison message does not take its neighbours along. */
const aloneFromAttempt = 3;

/** How much may be open of one cursor. */
export interface CursorBounds {
  /** Delivered and not acked. */
  readonly inFlightRecordsMax: number;
  /** Runs of acked records above the committed offset, behind which nothing new goes out. */
  readonly ackedRunsMax: number;
}

export type NextDelivery =
  | { readonly type: 'deliver'; readonly first: number; readonly last: number }
  | { readonly type: 'blocked'; readonly on: 'RETRY' | 'MOVING' | 'WINDOW' | 'CAUGHT_UP'; readonly untilMs?: number };

/** Where delivery goes on in a log that one member reads in order, and what holds it back. */
export class Position {
  readonly #progress: Progress;
  readonly #inFlight: InFlight;
  readonly #bounds: CursorBounds;
  /** What is acked or in flight behind it is skipped. */
  #offset: number;
  #handedOut: number;
  /** Nothing goes out before: records were refused. */
  #pause: Pause | null = null;

  constructor(progress: Progress, inFlight: InFlight, bounds: CursorBounds) {
    this.#progress = progress;
    this.#inFlight = inFlight;
    this.#bounds = bounds;
    this.#offset = this.#handedOut = progress.committedOffset;
  }

  /** Everything below was handed out to the present holder, or is acked: only that may be acked. */
  get handedOut(): number {
    return this.#handedOut;
  }

  /** The longest run that may go next as one message, or what stands against it. */
  next(endOffset: number, nowMs: number): NextDelivery {
    if (this.#pause !== null) {
      if (nowMs < this.#pause.untilMs) return { type: 'blocked', on: 'RETRY', untilMs: this.#pause.untilMs };
      this.#pause = null;
    }
    const first = this.#skip(this.#offset);
    if (first >= endOffset) return { type: 'blocked', on: 'CAUGHT_UP' };
    if (first > this.#inFlight.lowestMoving) return { type: 'blocked', on: 'MOVING' };
    const room = this.#bounds.inFlightRecordsMax - this.#inFlight.records;
    if (room <= 0 || this.#tooManyHoles(first)) return { type: 'blocked', on: 'WINDOW' };
    return { type: 'deliver', first, last: this.#lastTogether(first, Math.min(endOffset, first + room) - 1) };
  }

  /** first … last go out. */
  deliver(first: number, last: number): void {
    const isNext = first === this.#skip(this.#offset) && last >= first && first < this.#inFlight.lowestMoving;
    assert(isNext, `${first} to ${last} is not what goes next`);
    assert((this.#inFlight.at(first)?.first ?? Infinity) > last, `${first} to ${last} is in flight already`);
    this.#offset = last + 1;
    this.handOutBelow(last + 1);
  }

  handOutBelow(offset: number): void {
    this.#handedOut = Math.max(this.#handedOut, offset);
  }

  /** Delivery goes on at the offset, unless it is before it already. */
  rewind(offset: number): void {
    this.#offset = Math.min(this.#offset, offset);
  }

  /** Delivery begins at the committed offset again. */
  resend(): void {
    this.#offset = this.#progress.committedOffset;
  }

  /** Delivery begins at the committed offset, for a holder that has had nothing yet. */
  begin(): void {
    this.#offset = this.#handedOut = this.#progress.committedOffset;
  }

  pause(runs: Pause['runs'], untilMs: number, nowMs: number): void {
    this.#pause = prolonged(this.#pause, runs, untilMs, nowMs);
  }

  endPause(): void {
    this.#pause = null;
  }

  /** Records were acked. */
  acked(): void {
    this.#offset = Math.max(this.#offset, this.#progress.committedOffset);
    // What the log waited for is acked after all: a pause may be long, and nothing needs it any more.
    if (this.#pause?.runs.every(({ first, last }) => this.#progress.isAcked(first, last)) === true) this.#pause = null;
  }

  /** The first offset from `offset` on that is neither acked nor in flight. */
  #skip(offset: number): number {
    const { acked, committedOffset } = this.#progress;
    let free = Math.max(offset, committedOffset);
    for (;;) {
      const run = runFrom(acked, free);
      if (run < acked.length && acked[run]! <= free) {
        free = acked[run + 1]! + 1;
        continue;
      }
      const piece = this.#inFlight.at(free);
      if (piece === undefined || piece.first > free) return free;
      free = piece.last + 1;
    }
  }

  /** Holes close by what lies between them: that may still go out, only nothing behind the last of them. */
  #tooManyHoles(first: number): boolean {
    const { acked } = this.#progress;
    return acked.length >= this.#bounds.ackedRunsMax * 2 && first > acked.at(-1)!;
  }

  #lastTogether(first: number, last: number): number {
    const { acked, attempts } = this.#progress;
    const run = runFrom(acked, first);
    if (run < acked.length) last = Math.min(last, acked[run]! - 1);
    const piece = this.#inFlight.at(first);
    if (piece !== undefined) last = Math.min(last, piece.first - 1);
    if (!attempts.any) return last;
    if (attempts.of(first) + 1 >= aloneFromAttempt) return first;
    return (attempts.lowest(first + 1, last, aloneFromAttempt - 1) ?? last + 1) - 1;
  }
}
