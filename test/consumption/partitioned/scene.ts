import { expect } from 'vitest';
import {
  begunAt,
  Cursor,
  mergeDelta,
  type CursorDelta,
  type CursorSnapshot,
  type Named,
} from '../../../src/consumption/partitioned/cursor.ts';
import { bytesOf, Oracle } from './oracle.ts';

/** Offsets that a scene knows. */
export const size = 40;

export type Command =
  /** Hands out at most so many of what goes next. */
  | { readonly type: 'deliver'; readonly most: number; readonly leaseMs: number | null }
  | { readonly type: 'ack'; readonly named: Named }
  | { readonly type: 'nack'; readonly named: Named; readonly delayMs: number | null }
  | { readonly type: 'release'; readonly named: Named }
  | { readonly type: 'giveBackAll'; readonly countAttempt: boolean }
  | { readonly type: 'resend' | 'expire' }
  /** A commit of a client that holds nothing, and what it notes. */
  | { readonly type: 'advance'; readonly offset: number }
  | { readonly type: 'annotate'; readonly text: string }
  /** The holder is asked for the log, then it begins anew. */
  | { readonly type: 'reset'; readonly offset: number }
  | { readonly type: 'round' | 'fold' | 'takeover' }
  | { readonly type: 'append'; readonly records: number }
  | { readonly type: 'pass'; readonly ms: number };

/** A cursor, its oracle beside it, and what a database would have of it. They are compared after every step. */
export class CheckedScene {
  cursor: Cursor;
  nowMs = 0;
  endOffset = 0;
  /** The folded snapshot, and every delta since the beginning: old ones may come late. */
  folded: CursorSnapshot = begunAt(0);
  readonly deltas: CursorDelta[] = [];
  #oracle: Oracle;
  #ackedEver = new Set<number>();

  constructor() {
    this.cursor = new Cursor(this.folded);
    this.#oracle = new Oracle(this.folded, size);
  }

  /** @returns what both said to the command. */
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
        return ['upTo' in named ? cursor.ackUpTo(named.upTo) : cursor.ackRuns(named.runs), oracle.ack(named)];
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
      case 'reset':
        this.#reset(command.offset);
        return [null, null];
      default:
        this.#around(command);
        return [null, null];
    }
  }

  /** What happens to the log, the clock and the database. */
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

  /** Makes what changed durable. */
  round(): void {
    const delta = this.cursor.takeDelta();
    if (delta !== null) {
      this.deltas.push(delta);
      this.cursor.written(delta);
    }
    expect(this.cursor.takeDelta()).toBeNull();
    expect(this.stored()).toEqual(this.cursor.snapshot());
    expect(this.cursor.durableOffset).toBe(this.cursor.committedOffset);
  }

  /** What a database has: the folded snapshot with all deltas applied. */
  stored(): CursorSnapshot {
    return this.deltas.reduce(mergeDelta, this.folded);
  }

  /** The broker dies. What was not durable is gone, also acks that nobody was told of. */
  #takeOver(): void {
    const stored = this.stored();
    this.cursor = new Cursor(stored);
    this.#oracle = new Oracle(stored, size);
    this.#ackedEver = new Set();
    expect(this.cursor.takeDelta()).toBeNull();
  }

  /** The new incarnation is durable first: a row like that of a fold, of which older rounds know nothing. */
  #reset(offset: number): void {
    this.cursor.giveBackAll(false);
    const row = begunAt(offset, this.cursor.resets + 1);
    this.deltas.push(row);
    this.cursor.reset(offset, row.resets);
    this.#oracle = new Oracle(row, size);
    this.#ackedEver = new Set();
    expect(this.stored()).toEqual(this.cursor.snapshot());
    expect(this.cursor.takeDelta()).toBeNull();
  }

  #deliver(most: number, leaseMs: number | null): [unknown, unknown] {
    const next = this.next();
    if (next.type === 'blocked') return [null, null];
    const last = Math.min(next.last, next.first + most - 1);
    const leaseUntilMs = leaseMs === null ? null : this.nowMs + leaseMs;
    for (let offset = next.first; offset <= last; offset++) expect(this.#ackedEver.has(offset)).toBe(false);
    this.cursor.deliver(next.first, last, bytesOf, leaseUntilMs);
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
