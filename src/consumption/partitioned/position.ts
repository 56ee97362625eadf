import assert from 'node:assert/strict';
import type { Progress } from '../offsets/progress.ts';
import { runFrom, type OffsetRuns } from '../offsets/runs.ts';
import type { InFlight } from './in-flight.ts';
import { prolonged, type Pause } from './pause.ts';
import { present } from '../../errors/present.ts';

/**
 * From this attempt on a record goes out as a message of its own, so that a poison message does not
 * fail its neighbours too.
 */
const aloneFromAttempt = 3;

export interface CursorBounds {
  /** Records that are delivered and not acked. */
  readonly inFlightRecordsMax: number;
  /** Runs acked ahead of the committed offset. At the bound no record behind the last goes out. */
  readonly ackedRunsMax: number;
  /** Runs of ended attempts. At the bound an attempt that needs another run stays uncounted. */
  readonly attemptRunsMax: number;
}

export type NextDelivery =
  | { readonly type: 'deliver'; readonly first: number; readonly last: number }
  | { readonly type: 'blocked'; readonly on: 'RETRY' | 'MOVING' | 'WINDOW' | 'CAUGHT_UP'; readonly untilMs?: number };

/** Where delivery continues in a log that one member reads in order, and what blocks it. */
export class Position {
  readonly #progress: Progress;
  readonly #inFlight: InFlight;
  readonly #bounds: CursorBounds;
  /** Delivery continues at the first offset from here on that is neither acked nor in flight. */
  #offset: number;
  #handedOut: number;
  #pause: Pause | null = null;

  constructor(progress: Progress, inFlight: InFlight, bounds: CursorBounds) {
    this.#progress = progress;
    this.#inFlight = inFlight;
    this.#bounds = bounds;
    this.#offset = this.#handedOut = progress.committedOffset;
  }

  /** The holder may ack the records below, which were delivered to it or are acked. */
  get handedOut(): number {
    return this.#handedOut;
  }

  /** The longest run that may go next as one message, or what blocks it. */
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

  /** Moves past first … last, which go out. */
  deliver(first: number, last: number): void {
    const isNext = first === this.#skip(this.#offset) && last >= first && first < this.#inFlight.lowestMoving;
    if (!isNext) assert.fail(`${first} to ${last} is not what goes next`);
    const isFree = (this.#inFlight.at(first)?.first ?? Infinity) > last;
    if (!isFree) assert.fail(`${first} to ${last} is in flight already`);
    this.#offset = last + 1;
    this.handOutBelow(last + 1);
  }

  handOutBelow(offset: number): void {
    this.#handedOut = Math.max(this.#handedOut, offset);
  }

  /** Goes back to the offset, unless delivery continues below it anyway. */
  rewind(offset: number): void {
    this.#offset = Math.min(this.#offset, offset);
  }

  /** Goes back to the committed offset, for the same holder. */
  resend(): void {
    this.#offset = this.#progress.committedOffset;
  }

  /** Begins at the committed offset, for a new holder. */
  begin(): void {
    this.#offset = this.#handedOut = this.#progress.committedOffset;
  }

  /** The runs of records for which delivery pauses. */
  get pausedRuns(): number {
    return (this.#pause?.runs.length ?? 0) / 2;
  }

  pause(runs: OffsetRuns, untilMs: number, nowMs: number): void {
    this.#pause = prolonged(this.#pause, runs, untilMs, nowMs);
  }

  endPause(): void {
    this.#pause = null;
  }

  /** Follows an ack that has changed the progress. */
  acked(): void {
    this.#offset = Math.max(this.#offset, this.#progress.committedOffset);
    // Without this, a long pause would delay all other records for records that are acked by now.
    if (this.#pause !== null && this.#areAcked(this.#pause.runs)) this.#pause = null;
  }

  #areAcked(runs: OffsetRuns): boolean {
    for (let at = 0; at < runs.length; at += 2) if (!this.#progress.isAcked(runs[at]!, runs[at + 1]!)) return false;
    return true;
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
      const flying = this.#inFlight.at(free);
      if (flying === undefined || flying.first > free) return free;
      free = flying.last + 1;
    }
  }

  /** Records between the acked runs may still go out, because their acks close the holes. */
  #tooManyHoles(first: number): boolean {
    const { acked } = this.#progress;
    return (
      acked.length >= this.#bounds.ackedRunsMax * 2 &&
      first > present(acked.at(-1), 'more runs than the bound are not none')
    );
  }

  #lastTogether(first: number, last: number): number {
    const { acked, attempts } = this.#progress;
    const run = runFrom(acked, first);
    if (run < acked.length) last = Math.min(last, acked[run]! - 1);
    const flying = this.#inFlight.at(first);
    if (flying !== undefined) last = Math.min(last, flying.first - 1);
    if (!attempts.any) return last;
    if (attempts.of(first) + 1 >= aloneFromAttempt) return first;
    return (attempts.lowest(first + 1, last, aloneFromAttempt - 1) ?? last + 1) - 1;
  }
}
