import { expect } from 'vitest';
import {
  begunAt,
  Cursor,
  mergeDelta,
  type CursorBounds,
  type CursorDelta,
  type CursorSnapshot,
} from '../../../src/consumption/partitioned/cursor.ts';
import { bytesOf, offsetsOf, Oracle, runsOf, sizes, type Named, type Settled } from './oracle.ts';

/** What a cursor returns for records that a settlement takes. */
export type Moving = ReturnType<Cursor['move']>;

/** The number of offsets of a scene. */
export const size = 40;

/** Bounds so small that a scene reaches them. */
export const bounds: CursorBounds = { inFlightRecordsMax: 12, ackedRunsMax: 3, attemptRunsMax: 5 };

export type Command =
  /** Delivers at most so many of the next records. */
  | { readonly type: 'deliver'; readonly most: number; readonly leaseMs: number | null }
  | { readonly type: 'ack'; readonly named: Named }
  | { readonly type: 'nack'; readonly named: Named; readonly delayMs: number | null }
  | { readonly type: 'release'; readonly named: Named }
  | { readonly type: 'giveBackAll'; readonly countAttempt: boolean }
  | { readonly type: 'resend' | 'expire' }
  /** A commit of a client that holds nothing, and its note. */
  | { readonly type: 'advance'; readonly offset: number }
  | { readonly type: 'annotate'; readonly text: string }
  /** A settlement takes those of the records that the holder has in flight. */
  | { readonly type: 'move'; readonly runs: readonly number[] }
  /** The oldest settlement under way commits, is known to be durable, or fails. */
  | { readonly type: 'commit' | 'moved' | 'stays' }
  /** The holder gives the log back and the settlements end. Then the cursor is reset. */
  | { readonly type: 'reset'; readonly offset: number }
  | { readonly type: 'round' | 'fold' | 'takeover' }
  | { readonly type: 'append'; readonly records: number }
  | { readonly type: 'pass'; readonly ms: number };

/** A cursor, its oracle, and the state that a database would have, compared after every step. */
export class CheckedScene {
  cursor: Cursor;
  nowMs = 0;
  endOffset = 0;
  /** The folded snapshot, and every delta since the beginning, because old ones may come late. */
  folded: CursorSnapshot = begunAt(0);
  readonly deltas: CursorDelta[] = [];
  /** Settlements under way, the oldest first. */
  readonly moving: { readonly token: Moving; committed: boolean }[] = [];
  #oracle: Oracle;
  #ackedEver = new Set<number>();
  /** Offsets that settlements have completed, even if the cursor does not know yet. */
  readonly #movedEver = new Set<number>();

  constructor() {
    this.cursor = new Cursor(this.folded, bounds);
    this.#oracle = new Oracle(this.folded, size, bounds);
  }

  /** @returns the answer to the command, which the cursor and the oracle must share. */
  do(command: Command): unknown {
    const before = this.cursor.snapshot();
    const flying = { records: this.cursor.inFlightRecords, bytes: this.cursor.inFlightBytes };
    const [said, expected] = this.#carryOut(command);
    expect(said).toEqual(expected);
    this.#check();
    if (isRefusal(said)) {
      expect(this.cursor.snapshot()).toEqual(before);
      expect({ records: this.cursor.inFlightRecords, bytes: this.cursor.inFlightBytes }).toEqual(flying);
    }
    return said;
  }

  next(): ReturnType<Cursor['next']> {
    return this.cursor.next(this.endOffset, this.nowMs);
  }

  #carryOut(command: Command): [unknown, unknown] {
    const { cursor, nowMs } = this;
    const oracle = this.#oracle;
    switch (command.type) {
      case 'deliver':
        return this.#deliver(command.most, command.leaseMs);
      case 'ack': {
        const { named } = command;
        return ['upTo' in named ? cursor.ackUpTo(named.upTo) : this.#ackRuns(named.runs), oracle.ack(named)];
      }
      case 'nack': {
        const { named, delayMs } = command;
        return [cursor.nack(named, delayMs, nowMs), oracle.nack(named, delayMs, nowMs)];
      }
      case 'release':
        return [cursor.release(command.named, nowMs), oracle.release(command.named)];
      case 'giveBackAll':
        return [cursor.giveBackAll(command.countAttempt), oracle.giveBackAll(command.countAttempt)];
      case 'resend':
        return [cursor.resend(), oracle.resend()];
      case 'expire':
        return [cursor.expireLeases(nowMs), oracle.expireLeases(nowMs)];
      case 'advance':
        return [cursor.advance(command.offset), oracle.advance(command.offset)];
      case 'annotate':
        return [cursor.annotate(command.text), oracle.annotate(command.text)];
      case 'move':
        this.#move(command.runs);
        return [null, null];
      case 'commit':
        this.#commit();
        return [null, null];
      case 'moved':
      case 'stays':
        return this.#endMove(command.type);
      case 'reset':
        this.#reset(command.offset);
        return [null, null];
      default:
        this.#around(command);
        return [null, null];
    }
  }

  /** Acks the runs, which leave as many pieces as the cursor has said before. */
  #ackRuns(runs: readonly number[]): Settled {
    const { cursor } = this;
    const expected = cursor.inFlight.pieces + cursor.ackGrowth(runs).pieces;
    const settled = cursor.ackRuns(runs);
    if (settled.status === 'OK') expect(cursor.inFlight.pieces).toBe(expected);
    return settled;
  }

  /** Carries out commands that change the log, the clock or the database. */
  #around(command: Extract<Command, { type: 'round' | 'fold' | 'takeover' | 'append' | 'pass' }>): void {
    switch (command.type) {
      case 'round':
        this.round();
        return;
      case 'fold':
        this.folded = this.cursor.snapshot();
        return;
      case 'takeover':
        this.#takeOver();
        return;
      case 'append':
        this.endOffset = Math.min(size - 1, this.endOffset + command.records);
        return;
      case 'pass':
        this.nowMs += command.ms;
        return;
    }
  }

  /** Makes all changes durable. */
  round(): void {
    const delta = this.cursor.takeDelta();
    if (delta !== null) {
      this.deltas.push(delta);
      this.cursor.written(delta);
    }
    expect(this.cursor.takeDelta()).toBeNull();
    // The database also has settlements that have committed and whose answers have not come yet.
    const unanswered = this.moving.filter(({ committed }) => committed).map(({ token }) => token.delta);
    expect(this.stored()).toEqual(unanswered.reduce(mergeDelta, this.cursor.snapshot()));
    expect(this.cursor.durableOffset).toBe(this.cursor.committedOffset);
  }

  /** The state in the database: the folded snapshot with all deltas applied. */
  stored(): CursorSnapshot {
    return this.deltas.reduce(mergeDelta, this.folded);
  }

  /** Loads the stored state as a new broker does. Everything that was not durable is lost. */
  #takeOver(): void {
    const stored = this.stored();
    this.cursor = new Cursor(stored, bounds);
    this.#oracle = new Oracle(stored, size, bounds);
    this.moving.length = 0;
    this.#ackedEver = new Set();
    expect(this.cursor.takeDelta()).toBeNull();
  }

  /** Makes the new incarnation durable first, so that no late delta of the old one counts. */
  #reset(offset: number): void {
    this.cursor.giveBackAll(false);
    this.#oracle.giveBackAll(false);
    while (this.moving.length > 0) this.#endMove(this.moving[0]!.committed ? 'moved' : 'stays');
    const row = begunAt(offset, this.cursor.resets + 1);
    this.deltas.push(row);
    this.cursor.reset(offset, row.resets);
    this.#oracle = new Oracle(row, size, bounds);
    this.#ackedEver = new Set();
    this.#movedEver.clear();
    expect(this.stored()).toEqual(this.cursor.snapshot());
    expect(this.cursor.takeDelta()).toBeNull();
  }

  #move(runs: readonly number[]): void {
    const held = runsOf(offsetsOf({ runs }).filter((offset) => this.#oracle.held.includes(offset)));
    if (held.length === 0) return;
    const token = this.cursor.move(held);
    expect(token.runs).toEqual(held);
    this.#oracle.move(held);
    this.moving.push({ token, committed: false });
  }

  #commit(): void {
    const next = this.moving.find(({ committed }) => !committed);
    if (next === undefined) return;
    next.committed = true;
    this.deltas.push(next.token.delta);
    for (const offset of offsetsOf(next.token)) this.#movedEver.add(offset);
  }

  /** Ends the oldest settlement that has committed (`moved`), or that has not (`stays`). */
  #endMove(how: 'moved' | 'stays'): [unknown, unknown] {
    if (how === 'moved' && !this.moving.some(({ committed }) => committed)) this.#commit();
    const at = this.moving.findIndex(({ committed }) => committed === (how === 'moved'));
    if (at < 0) return [null, null];
    const { token } = this.moving[at]!;
    this.moving.splice(at, 1);
    return [this.cursor[how](token), this.#oracle[how](token.runs)];
  }

  #deliver(most: number, leaseMs: number | null): [unknown, unknown] {
    const next = this.next();
    if (next.type === 'blocked') return [null, null];
    const last = Math.min(next.last, next.first + most - 1);
    const leaseUntilMs = leaseMs === null ? null : this.nowMs + leaseMs;
    for (let offset = next.first; offset <= last; offset++) {
      expect(this.#ackedEver.has(offset)).toBe(false);
      expect(this.#movedEver.has(offset)).toBe(false);
      expect(this.#oracle.moving).not.toContain(offset);
    }
    this.cursor.deliver(next.first, last, sizes, leaseUntilMs);
    this.#oracle.deliver(next.first, last, leaseUntilMs);
    return [null, null];
  }

  #check(): void {
    const { cursor } = this;
    const oracle = this.#oracle;
    const flying = oracle.inFlight;
    const snapshot = cursor.snapshot();
    expect(this.next()).toEqual(oracle.next(this.endOffset, this.nowMs));
    expect(snapshot).toEqual(oracle.snapshot());
    expect(cursor.committedOffset).toBe(snapshot.committedOffset);
    expect(cursor.durableOffset).toBeLessThanOrEqual(this.stored().committedOffset);
    expect(cursor.metadata).toBe(snapshot.metadata?.text ?? '');
    expect(cursor.inFlightRecords).toBe(flying.length);
    expect(cursor.inFlightBytes).toBe(flying.reduce((sum, offset) => sum + bytesOf(offset, offset), 0));
    expect(cursor.inFlight.sizeBytes).toBe(sizes.keptBytes * oracle.divisibleDeliveries);
    expect(cursor.inFlight.pieces).toBeGreaterThanOrEqual(oracle.flyingRuns);
    expect(cursor.inFlight.pieces).toBeLessThanOrEqual(flying.length);
    expect(cursor.refusedRuns).toBeGreaterThanOrEqual(oracle.refusedRuns);
    expect(cursor.lag(this.endOffset)).toBe(oracle.lag(this.endOffset));
    expect(cursor.nextDeadlineMs()).toBe(oracle.nextDeadlineMs());
    expect(cursor.hasAttempts).toBe(snapshot.attempts.length > 0);
    for (let offset = 0; offset < size; offset++) {
      if (this.#isAcked(snapshot, offset)) this.#ackedEver.add(offset);
      else {
        expect(this.#ackedEver.has(offset)).toBe(false);
        expect(cursor.attemptOf(offset)).toBe(oracle.attemptOf(offset));
      }
    }
  }

  #isAcked({ committedOffset, acked }: CursorSnapshot, offset: number): boolean {
    if (offset < committedOffset) return true;
    return acked.some((first, at) => at % 2 === 0 && first <= offset && offset <= acked[at + 1]!);
  }
}

function isRefusal(said: unknown): boolean {
  return typeof said === 'object' && said !== null && 'status' in said && said.status !== 'OK';
}
