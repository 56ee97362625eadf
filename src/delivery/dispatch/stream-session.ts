import type { Rejection } from '../../errors/rejections/rejection.ts';
import type { Clock } from '../../time/clock.ts';
import { AssignmentChanges } from './assignment-changes.ts';
import type { Member, Reader } from './member.ts';
import { handOut, nextPiece, type HandOut, type Piece } from './piece.ts';
import type { BlockedOn, EventSink, StreamEvent } from '../ports/session.ts';

/**
 * The open stream of one member: the pump that sends it batches while credit and socket allow, and the Idle events
 * that say why it sends none.
 */

/** First Idle event after the last batch, then the interval of the next ones, and the least time between any two. */
const idleFirstMs = 1_000;
const idleIntervalMs = 10_000;
const idlePartitionsMax = 100;
/** How soon to look again whether this broker is sure to own the group. */
const ownershipRetryMs = 100;

interface StreamOptions {
  readonly member: Member;
  readonly sink: EventSink;
  readonly autoAck: boolean;
  /** From the second time on its client is told what has changed in the assignment, not all of it. */
  readonly assignmentChanges: boolean;
  readonly handOut: HandOut;
  readonly clock: Clock;
  readonly unsentBytesMax: number;
  /** False while this broker cannot be sure that it still owns the group. */
  readonly mayDeliver: () => boolean;
  /** That was so when there was something to tell the client: it is to look elsewhere. */
  readonly onUnsure: () => void;
  readonly generation: () => number;
  /** Acks exactly the records that an auto-ack stream hands to the transport, none before them. */
  readonly ackNow: (piece: Piece) => void;
}

export class StreamSession implements Reader {
  blockedOn: BlockedOn | null = null;
  readonly #o: StreamOptions;
  #pumpAsked = false;
  #ended = false;
  #draining = false;
  #cancelWake: (() => void) | null = null;
  #wakeAtMs = Infinity;
  #cancelIdle: (() => void) | null = null;
  #lastBatchMs: number;
  #lastIdleMs = -Infinity;
  #toldBlockedOn: BlockedOn | null = null;

  constructor(options: StreamOptions) {
    this.#o = options;
    this.#lastBatchMs = options.clock.nowMs();
    options.sink.onDrain = () => {
      this.wake();
    };
    this.#armIdle(idleFirstMs);
  }

  wake(): void {
    if (this.#pumpAsked || this.#ended) return;
    this.#pumpAsked = true;
    this.#o.clock.soon(() => {
      this.#pumpAsked = false;
      this.#pump();
    });
  }

  tell(event: StreamEvent): void {
    if (!this.#ended) this.#o.sink.send(event);
  }

  /** Tells the client what the member has, or what has changed in that. */
  tellAssigned(): void {
    const { member, assignmentChanges } = this.#o;
    const generation = this.#o.generation();
    const changes = member.changes?.take();
    if (changes === undefined) this.tell({ type: 'assigned', generation, partitions: member.partitions() });
    else this.tell({ type: 'assigned', generation, partitions: changes.came, removed: changes.went });
    if (assignmentChanges) member.changes ??= new AssignmentChanges();
  }

  /** Tells the client to go elsewhere; nothing new is delivered, acks still count. */
  drain(deadlineAtMs: number): void {
    const { member, generation } = this.#o;
    this.tell({ type: 'draining', generation: generation(), memberId: member.id, deadlineAtMs });
    this.#draining = true;
  }

  /** Ends the stream towards the client. Idempotent. */
  end(error: Rejection | null): void {
    if (this.#ended) return;
    this.stop();
    this.#o.sink.end(error);
  }

  /** The client has gone: nothing is sent any more. Idempotent. */
  stop(): void {
    this.#ended = true;
    this.#o.sink.onDrain = null;
    this.#cancelWake?.();
    this.#cancelIdle?.();
  }

  /** Sends until something holds it back, and remembers what. */
  #pump(): void {
    if (this.#ended || this.#draining) return;
    if (!this.#o.mayDeliver()) {
      const nowMs = this.#o.clock.nowMs();
      this.#wakeAt(nowMs + ownershipRetryMs, nowMs);
      return;
    }
    for (;;) {
      if (this.#o.sink.unsentBytes >= this.#o.unsentBytesMax) {
        this.#block('SLOW_READER');
        return;
      }
      const piece = this.#findPiece();
      if (piece === null) return;
      this.#deliver(piece);
    }
  }

  #findPiece(): Piece | null {
    const { member, clock } = this.#o;
    const { ready, credit } = member;
    const nowMs = clock.nowMs();
    for (let seat = ready.next; seat !== null; seat = ready.next) {
      const look = nextPiece(seat, credit, nowMs, false);
      if ('batch' in look) return look;
      seat.foundNothing(look.blockedOn);
      ready.wait(seat, look.blockedOn);
      if (look.untilMs !== null) this.#wakeAt(look.untilMs, nowMs);
    }
    this.#block(ready.reason ?? this.#without());
    return null;
  }

  /** Why the member has no partition. */
  #without(): BlockedOn {
    return this.#o.member.stalled ? 'MAX_POLL_INTERVAL' : 'NO_ASSIGNMENT';
  }

  #deliver(piece: Piece): void {
    const { member, sink, autoAck, clock } = this.#o;
    this.#lastBatchMs = clock.nowMs();
    member.given(this.#lastBatchMs);
    const field = handOut(piece, member.credit, this.#o.handOut, null);
    member.ready.served(piece.seat);
    this.blockedOn = null;
    this.#toldBlockedOn = null;
    sink.send({ type: 'batch', generation: this.#o.generation(), field });
    if (autoAck) this.#o.ackNow(piece);
  }

  #block(reason: BlockedOn): void {
    this.blockedOn = reason;
    // A change of reason is told at once, but at most once a second; right after a batch it is not yet idleness.
    const due = Math.max(this.#lastBatchMs, this.#lastIdleMs) + idleFirstMs;
    if (this.#toldBlockedOn !== null && reason !== this.#toldBlockedOn) this.#armIdle(due - this.#o.clock.nowMs());
  }

  #wakeAt(atMs: number, nowMs: number): void {
    if (atMs >= this.#wakeAtMs) return;
    this.#cancelWake?.();
    this.#wakeAtMs = atMs;
    this.#cancelWake = this.#o.clock.after(Math.max(1, Math.ceil(atMs - nowMs)), () => {
      this.#wakeAtMs = Infinity;
      this.#o.member.ready.timePassed();
      this.wake();
    });
  }

  #armIdle(delayMs: number): void {
    this.#cancelIdle?.();
    this.#cancelIdle = this.#o.clock.after(Math.max(0, Math.ceil(delayMs)), () => {
      this.#idle();
    });
  }

  #idle(): void {
    if (this.#ended) return;
    // Without a session timeout a client has nothing to ask: an open stream would tell it that all is well.
    if (!this.#o.mayDeliver()) {
      this.#o.onUnsure();
      return;
    }
    const nowMs = this.#o.clock.nowMs();
    const quietMs = nowMs - this.#lastBatchMs;
    if (quietMs < idleFirstMs) {
      this.#armIdle(idleFirstMs - quietMs);
      return;
    }
    this.#lastIdleMs = nowMs;
    this.#tellIdle();
    this.#armIdle(idleIntervalMs);
  }

  #tellIdle(): void {
    const { member, generation } = this.#o;
    const blockedOn = this.blockedOn ?? (member.seats.length === 0 ? this.#without() : 'CAUGHT_UP');
    this.#toldBlockedOn = blockedOn;
    let lag = 0;
    for (const { feed } of member.seats) lag += feed.cursor.lag(feed.log.endOffset);
    this.tell({
      type: 'idle',
      generation: generation(),
      blockedOn,
      lag,
      inFlightRecords: member.credit.records,
      inFlightBytes: member.credit.bytes,
      partitions: member.seats.slice(0, idlePartitionsMax).map(({ feed }) => feed.status()),
    });
  }
}
