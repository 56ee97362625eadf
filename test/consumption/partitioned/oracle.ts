import type {
  CommitMetadata,
  Cursor,
  CursorBounds,
  CursorSnapshot,
  NextDelivery,
} from '../../../src/consumption/partitioned/cursor.ts';
import { limits } from '../../../src/limits/limits.ts';

/** The records that an input names, and what an input returns. */
export type Named = Parameters<Cursor['nack']>[0];
export type Settled = ReturnType<Cursor['nack']>;

interface Slot {
  state: 'open' | 'inFlight' | 'moving' | 'acked';
  ended: number;
  leaseUntilMs: number | null;
  /** The current holder has NACKed or released the record, or let its lease expire. */
  refused: boolean;
  /** The offset at which its last delivery began, and whether that had other records too. */
  delivery: { readonly first: number; readonly divisible: boolean } | null;
}

/** The bytes of the record at an offset. All records differ, so that a mix-up shows in the sums. */
export function bytesAt(offset: number): number {
  return 100 + offset * 7;
}

export function bytesOf(first: number, last: number): number {
  let bytes = 0;
  for (let offset = first; offset <= last; offset++) bytes += bytesAt(offset);
  return bytes;
}

/** The sizes of all records, as those of one batch. */
export const sizes = { keptBytes: 1_000, bytesOf };

/** The cursor as a table with a row for each offset: slow, and simple enough to be correct. */
export class Oracle {
  readonly #slots: Slot[];
  readonly #resets: number;
  readonly #bounds: CursorBounds;
  #metadata: CommitMetadata | null;
  #position: number;
  #handedOut: number;
  #retryAtMs: number | null = null;
  /** The records whose acks end the pause. */
  readonly #pausedFor = new Set<number>();

  constructor(snapshot: CursorSnapshot, size: number, bounds: CursorBounds) {
    this.#bounds = bounds;
    const { committedOffset, acked, attempts } = snapshot;
    this.#resets = snapshot.resets;
    this.#metadata = snapshot.metadata;
    this.#slots = Array.from({ length: size }, (_, offset) => ({
      state: offset < committedOffset || contains(acked, offset) ? 'acked' : 'open',
      ended: 0,
      leaseUntilMs: null,
      refused: false,
      delivery: null,
    }));
    for (const [offset, ended] of attemptsOf(attempts)) this.#slots[offset]!.ended = ended;
    this.#position = this.#handedOut = this.committedOffset;
  }

  get committedOffset(): number {
    const open = this.#slots.findIndex(({ state }) => state !== 'acked');
    return open === -1 ? this.#slots.length : open;
  }

  /** The records that the holder has in flight. */
  get held(): number[] {
    return this.#offsets(({ state }) => state === 'inFlight');
  }

  get moving(): number[] {
    return this.#offsets(({ state }) => state === 'moving');
  }

  get inFlight(): number[] {
    return [...this.held, ...this.moving];
  }

  /** Deliveries of several records, of which some are in flight. */
  get divisibleDeliveries(): number {
    const deliveries = this.inFlight.map((offset) => this.#slots[offset]!.delivery);
    return new Set(deliveries.filter((delivery) => delivery?.divisible === true)).size;
  }

  /** The runs of records of one delivery that are in flight, or moving. */
  get flyingRuns(): number {
    const isNext = (offset: number): boolean => {
      const [before, slot] = [this.#slots[offset - 1], this.#slots[offset]!];
      return before?.state === slot.state && before.delivery === slot.delivery;
    };
    return this.inFlight.filter((offset) => !isNext(offset)).length;
  }

  get refusedRuns(): number {
    return runsOf(this.#offsets(({ refused, state }) => refused && state !== 'acked')).length / 2;
  }

  snapshot(): CursorSnapshot {
    const committedOffset = this.committedOffset;
    const attempts = this.#offsets(({ state, ended }) => state !== 'acked' && ended > 0);
    return {
      resets: this.#resets,
      metadata: this.#metadata,
      committedOffset,
      acked: runsOf(this.#offsets(({ state }, offset) => state === 'acked' && offset > committedOffset)),
      attempts: attemptRunsOf(attempts, (offset) => this.#slots[offset]!.ended),
    };
  }

  attemptOf(offset: number): number {
    return this.#slots[offset]!.ended + 1;
  }

  lag(endOffset: number): number {
    return this.#offsets(({ state }, offset) => state !== 'acked' && offset < endOffset).length;
  }

  nextDeadlineMs(): number | null {
    const leases = this.held.flatMap((offset) => this.#slots[offset]!.leaseUntilMs ?? []);
    return leases.length === 0 ? null : Math.min(...leases);
  }

  next(endOffset: number, nowMs: number): NextDelivery {
    if (this.#retryAtMs !== null && nowMs < this.#retryAtMs) {
      return { type: 'blocked', on: 'RETRY', untilMs: this.#retryAtMs };
    }
    const isOpen = (offset: number): boolean => offset < endOffset && this.#slots[offset]!.state === 'open';
    const first = this.#offsets((_, offset) => offset >= this.#position && isOpen(offset))[0];
    if (first === undefined) return { type: 'blocked', on: 'CAUGHT_UP' };
    if (this.moving.some((offset) => offset < first)) return { type: 'blocked', on: 'MOVING' };
    const { acked } = this.snapshot();
    const room = this.#bounds.inFlightRecordsMax - this.inFlight.length;
    const beyondHoles = acked.length / 2 >= this.#bounds.ackedRunsMax && first > acked.at(-1)!;
    if (room <= 0 || beyondHoles) return { type: 'blocked', on: 'WINDOW' };
    let last = first;
    const alone = (offset: number): boolean => this.attemptOf(offset) >= 3;
    while (isOpen(last + 1) && last + 1 - first < room && !alone(first) && !alone(last + 1)) last++;
    return { type: 'deliver', first, last };
  }

  deliver(first: number, last: number, leaseUntilMs: number | null): void {
    const delivery = { first, divisible: last > first };
    for (let offset = first; offset <= last; offset++) {
      Object.assign(this.#slots[offset]!, { state: 'inFlight', leaseUntilMs, delivery });
    }
    this.#position = last + 1;
    this.#handedOut = Math.max(this.#handedOut, last + 1);
  }

  ack(named: Named): Settled {
    const offsets = offsetsOf(named);
    const refusal = this.#refusal(offsets);
    if (refusal !== null) return unsettled(refusal);
    const isOwed = (offset: number): boolean => this.#slots[offset]!.refused && this.#slots[offset]!.state !== 'acked';
    if ('upTo' in named && offsets.some(isOwed)) return unsettled('UNKNOWN_OFFSET');
    return this.#ack(offsets);
  }

  #ack(offsets: readonly number[]): Settled {
    const freed = this.#settle(offsets, 'acked');
    if ([...this.#pausedFor].every((offset) => this.#slots[offset]!.state === 'acked')) this.#retryAtMs = null;
    this.#position = Math.max(this.#position, this.committedOffset);
    return { status: 'OK', ...freed };
  }

  advance(offset: number): Settled {
    if (this.moving.some((moving) => moving < offset)) return unsettled('UNKNOWN_OFFSET');
    this.#handedOut = Math.max(this.#handedOut, offset);
    const offsets = offsetsOf({ upTo: offset - 1 });
    const refusal = this.#refusal(offsets);
    return refusal === null ? this.#ack(offsets) : unsettled(refusal);
  }

  annotate(text: string): void {
    this.#metadata = { seq: (this.#metadata?.seq ?? 0) + 1, text };
  }

  nack(named: Named, delayMs: number | null, nowMs: number): Settled {
    const found = this.#found(named);
    if (!Array.isArray(found)) return found;
    this.#count(found);
    const doubled = limits.nackBackoffMsDefault * 2 ** (this.#slots[found[0]!]!.ended - 1);
    if (this.#retryAtMs === null || this.#retryAtMs <= nowMs) {
      this.#retryAtMs = nowMs;
      this.#pausedFor.clear();
    }
    this.#retryAtMs = Math.max(this.#retryAtMs, nowMs + (delayMs ?? Math.min(limits.nackBackoffMsMax, doubled)));
    for (const offset of found) this.#pausedFor.add(offset);
    return { status: 'OK', ...this.#rewind(found[0]!) };
  }

  release(named: Named): Settled {
    const found = this.#found(named);
    return Array.isArray(found) ? { status: 'OK', ...this.#rewind(found[0]!) } : found;
  }

  giveBackAll(countAttempt: boolean): { records: number; bytes: number } {
    if (countAttempt) this.#count(this.held);
    this.#handedOut = this.committedOffset;
    for (const slot of this.#slots) slot.refused = false;
    return this.resend();
  }

  resend(): { records: number; bytes: number } {
    this.#position = this.committedOffset;
    return this.#settle(this.held, 'open');
  }

  expireLeases(nowMs: number): { records: number; bytes: number } {
    const expired = this.held.filter((offset) => (this.#slots[offset]!.leaseUntilMs ?? Infinity) <= nowMs);
    this.#count(expired);
    this.#refuse(expired);
    this.#position = Math.min(this.#position, ...expired);
    return this.#settle(expired, 'open');
  }

  move(runs: readonly number[]): void {
    for (const offset of offsetsOf({ runs })) this.#slots[offset]!.state = 'moving';
  }

  moved(runs: readonly number[]): { records: number; bytes: number } {
    const freed = this.#ended(runs);
    this.#ack(offsetsOf({ runs }));
    return freed;
  }

  stays(runs: readonly number[]): { records: number; bytes: number } {
    const freed = this.#ended(runs);
    const offsets = offsetsOf({ runs });
    this.#refuse(offsets.filter((offset) => offset < this.#handedOut));
    const behind = this.#rewind(offsets[0]!);
    return { records: freed.records + behind.records, bytes: freed.bytes + behind.bytes };
  }

  #ended(runs: readonly number[]): { records: number; bytes: number } {
    const offsets = offsetsOf({ runs });
    for (const offset of offsets) Object.assign(this.#slots[offset]!, { state: 'open', leaseUntilMs: null });
    return { records: offsets.length, bytes: offsets.reduce((sum, offset) => sum + bytesAt(offset), 0) };
  }

  #found(named: Named): number[] | Settled {
    const offsets = offsetsOf(named);
    const refusal = this.#refusal(offsets);
    if (refusal !== null) return unsettled(refusal);
    this.#refuse(offsets);
    const found = offsets.filter((offset) => this.#slots[offset]!.state === 'inFlight');
    return found.length > 0 ? found : unsettled('LEASE_EXPIRED');
  }

  /** Counts each run of the records, unless there would be too many runs. */
  #count(offsets: readonly number[]): void {
    const runs = runsOf(offsets);
    for (let at = 0; at < runs.length; at += 2) {
      const run = offsetsOf({ runs: runs.slice(at, at + 2) });
      for (const offset of run) this.#slots[offset]!.ended++;
      if (this.snapshot().attempts.length / 3 <= this.#bounds.attemptRunsMax) continue;
      for (const offset of run) this.#slots[offset]!.ended--;
    }
  }

  #refuse(offsets: readonly number[]): void {
    for (const offset of offsets) this.#slots[offset]!.refused = true;
  }

  #refusal(offsets: readonly number[]): Settled['status'] | null {
    const open = offsets.filter((offset) => this.#slots[offset]!.state !== 'acked');
    if (open.some((offset) => offset >= this.#handedOut)) return 'UNKNOWN_OFFSET';
    if (open.some((offset) => this.#slots[offset]!.state === 'moving')) return 'UNKNOWN_OFFSET';
    return open.length === 0 ? 'ALREADY_ACKED' : null;
  }

  #rewind(lowest: number): { records: number; bytes: number } {
    this.#position = Math.min(this.#position, lowest);
    return this.#settle(
      this.held.filter((offset) => offset >= lowest),
      'open',
    );
  }

  #settle(offsets: readonly number[], state: 'acked' | 'open'): { records: number; bytes: number } {
    const flying = offsets.filter((offset) => this.#slots[offset]!.state === 'inFlight');
    for (const offset of offsets) this.#slots[offset]!.state = state;
    return { records: flying.length, bytes: flying.reduce((sum, offset) => sum + bytesAt(offset), 0) };
  }

  #offsets(matches: (slot: Slot, offset: number) => boolean): number[] {
    return this.#slots.flatMap((slot, offset) => (matches(slot, offset) ? [offset] : []));
  }
}

/** Each of the named offsets. */
export function offsetsOf(named: Named): number[] {
  const runs = 'upTo' in named ? [0, named.upTo] : named.runs;
  const offsets: number[] = [];
  for (let at = 0; at < runs.length; at += 2) {
    for (let offset = runs[at]!; offset <= runs[at + 1]!; offset++) offsets.push(offset);
  }
  return offsets;
}

/** Makes runs of ascending offsets. */
export function runsOf(offsets: readonly number[]): number[] {
  const runs: number[] = [];
  for (const offset of offsets) {
    if (runs.at(-1) === offset - 1) runs[runs.length - 1] = offset;
    else runs.push(offset, offset);
  }
  return runs;
}

/** Makes runs of the ended attempts of offsets. */
export function attemptRunsOf(offsets: Iterable<number>, endedOf: (offset: number) => number): number[] {
  const runs: number[][] = [];
  for (const offset of [...offsets].sort((a, b) => a - b)) {
    const before = runs.at(-1);
    if (before?.[1] === offset - 1 && before[2] === endedOf(offset)) before[1] = offset;
    else runs.push([offset, offset, endedOf(offset)]);
  }
  return runs.flat();
}

/** The ended attempts of each record of the runs. */
export function attemptsOf(runs: readonly number[]): Map<number, number> {
  const ended = new Map<number, number>();
  for (let at = 0; at < runs.length; at += 3) {
    for (const offset of offsetsOf({ runs: runs.slice(at, at + 2) })) ended.set(offset, runs[at + 2]!);
  }
  return ended;
}

function contains(runs: readonly number[], offset: number): boolean {
  return offsetsOf({ runs }).includes(offset);
}

function unsettled(status: Settled['status']): Settled {
  return { status, records: 0, bytes: 0 };
}
