import type { Hold } from '../../account/hold.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import type { Feed, Seat } from './feed.ts';
import type { Member, Reader } from './member.ts';
import { handOut, nextPiece, type HandOut, type Piece } from './piece.ts';
import { placesOf } from './places.ts';
import type { BlockedOn, EventSink, StreamEvent } from '../ports/session.ts';
import type { DeliveryRoom } from './delivery-room.ts';
import type { SlowReaders } from './slow-readers.ts';
import { Untold, type Fact } from './untold.ts';

/**
 * The first idle event comes so long after the last batch. It is also the least time between two.
 */
const idleFirstMs = 1_000;
const idleIntervalMs = 10_000;
const idlePartitionsMax = 100;
/** Tags, lengths and the number of one partition in an event, beside the name of its topic. */
const partitionBytes = 16;
/** The wait before the pump checks again that this broker owns the group. */
const ownershipRetryMs = 100;

interface StreamOptions {
  readonly member: Member;
  readonly sink: EventSink;
  readonly autoAck: boolean;
  /** All assigned events but the first contain only the changes of the assignment. */
  readonly assignmentChanges: boolean;
  readonly handOut: HandOut;
  readonly clock: Clock;
  readonly slowReaders: SlowReaders;
  readonly deliveryRoom: DeliveryRoom;
  /** False while this broker cannot be sure that it still owns the group. */
  readonly mayDeliver: () => boolean;
  /** Called instead of an idle event while `mayDeliver` returns false. */
  readonly onUnsure: () => void;
  /** Called when the client has taken nothing for too long. */
  readonly onSlow: () => void;
  readonly generation: () => number;
  readonly joined: () => StreamEvent;
  /**
   * Acks exactly the records of the piece, which an auto-ack stream has handed to the transport.
   */
  readonly ackNow: (piece: Piece) => void;
}

/**
 * The open stream of one member. While the client reads, it tells what the client does not know
 * (SPEC.md), and then its pump sends batches as credit allows. Its idle events give the reason when
 * it sends none.
 */
export class StreamSession implements Reader {
  readonly isPull = false;
  blockedOn: BlockedOn | null = null;
  readonly #o: StreamOptions;
  readonly #untold: Untold<Feed>;
  /** The unsent bytes of this stream in the account. */
  readonly #counted: Hold;
  #drainUntilMs = Infinity;
  #pumpAsked = false;
  #ended = false;
  #draining = false;
  #cancelWake: (() => void) | null = null;
  #wakeAtMs = Infinity;
  #cancelIdle: (() => void) | null = null;
  #lastBatchMs: number;
  #lastIdleMs = -Infinity;
  #sentBlockedOn: BlockedOn | null = null;

  constructor(options: StreamOptions) {
    const { member, assignmentChanges: changes } = options;
    this.#o = options;
    this.#untold = new Untold({
      held: () => wholePartitions(member.seats),
      gaps: member.gaps.open(),
      asked: wholePartitions(member.askedBack),
      changes,
      bytesOf: ({ topic }) => topic.length + partitionBytes,
      assignedBytesMax: changes ? limits.assignedPartBytesMax : limits.messageBytesMax - partitionBytes,
      revokingBytesMax: limits.assignedPartBytesMax,
    });
    this.#lastBatchMs = options.clock.nowMs();
    this.#counted = options.slowReaders.unsent.part();
    options.sink.onDrain = () => {
      this.#taken();
    };
    options.slowReaders.opened(this);
    this.#armIdle(idleFirstMs);
  }

  /** Tells the member and its assignment. */
  begin(): void {
    this.#o.member.untold = this.#untold;
    // Joined is small and sent once, so it waits for no memory.
    this.#tellNext();
    this.#tell();
    this.wake();
  }

  wake(): boolean {
    if (this.#pumpAsked || this.#ended) return !this.#ended;
    this.#pumpAsked = true;
    this.#o.clock.soon(() => {
      this.#pumpAsked = false;
      this.#pump();
    });
    return true;
  }

  /** Tells the assignment of the member, or its changes. */
  tellAssigned(): void {
    this.#untold.assigned();
    this.#tell();
  }

  tellRevoking(): void {
    this.#tell();
  }

  /** Asks the client to connect elsewhere. The stream delivers nothing more; acks still count. */
  drain(deadlineAtMs: number): void {
    this.#drainUntilMs = deadlineAtMs;
    this.#draining = true;
    this.#untold.draining();
    this.#tell();
  }

  /** Ends the stream for the client too. Idempotent. */
  end(error: Rejection | null): void {
    if (this.#ended) return;
    this.#halt();
    this.#o.sink.end(error);
  }

  /** Stops the session, whose transport is closed. Idempotent. */
  stop(): void {
    this.#halt();
    this.#o.sink.onDrain = null;
    this.#o.slowReaders.closed(this);
    this.#counted.release();
  }

  get #unsentBytes(): number {
    return this.#o.sink.unsentBytes;
  }

  hasProgress(): boolean {
    return this.#o.sink.hasProgress();
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  stuck(): void {
    if (this.#ended) this.#o.sink.cut();
    else this.#o.onSlow();
  }

  #halt(): void {
    this.#ended = true;
    this.#cancelWake?.();
    this.#cancelIdle?.();
  }

  #taken(): void {
    this.#counted.force(this.#unsentBytes);
    if (this.#ended) return;
    this.#tell();
    this.wake();
  }

  #send(event: StreamEvent): void {
    this.#o.sink.send(event);
    this.#counted.force(this.#unsentBytes);
  }

  /** Tells what the client does not know. @returns whether the client has been told all. */
  #tell(): boolean {
    while (!this.#ended && !this.#untold.isEmpty && this.#mayAdd()) {
      this.#tellNext();
    }
    return this.#untold.isEmpty;
  }

  #tellNext(): void {
    const fact = this.#untold.next();
    const event = fact === null ? null : this.#eventOf(fact);
    if (event !== null) this.#send(event);
  }

  /** Whether the client has read enough for one more event, and the clients of all streams too. */
  #mayAdd(): boolean {
    const bytes = this.#unsentBytes;
    return bytes < this.#o.slowReaders.unsentBytesMax && this.#o.slowReaders.unsent.hasRoom(bytes, this);
  }

  #eventOf(fact: Fact<Feed>): StreamEvent | null {
    const generation = this.#o.generation();
    switch (fact.type) {
      case 'joined':
        return this.#o.joined();
      case 'assigned': {
        const { partitions, removed } = fact;
        const named = { type: 'assigned', generation, partitions: placesOf(partitions) } as const;
        return removed === null ? named : { ...named, removed: placesOf(removed) };
      }
      case 'gap':
        return gapEvent(generation, fact.log);
      case 'revoking':
        return { type: 'revoking', generation, ...revocation(fact.partitions) };
      case 'draining':
        return { type: 'draining', generation, memberId: this.#o.member.id, deadlineAtMs: this.#drainUntilMs };
      case 'idle':
        return this.#o.mayDeliver() ? this.#idleEvent() : null;
    }
  }

  /** Sends batches until something blocks it. */
  #pump(): void {
    const toldAll = this.#tell();
    if (this.#ended || this.#draining) return;
    if (!this.#o.mayDeliver()) {
      const nowMs = this.#o.clock.nowMs();
      this.#wakeAt(nowMs + ownershipRetryMs, nowMs);
      return;
    }
    for (;;) {
      // The look for a piece is cheap. Only a stream that has one waits for memory.
      const piece = toldAll && this.#unsentBytes < this.#o.slowReaders.unsentBytesMax ? this.#findPiece() : 'SLOW';
      if (piece === null) return;
      if (piece === 'SLOW' || !this.#mayAdd()) {
        this.#block('SLOW_READER');
        return;
      }
      if (!this.#o.deliveryRoom.hasFor(this, this.#o.member.credit.records)) {
        this.#block('WINDOW');
        return;
      }
      this.#deliver(piece);
    }
  }

  #findPiece(): Piece | null {
    const { member, autoAck, clock } = this.#o;
    const { ready, credit } = member;
    const nowMs = clock.nowMs();
    for (let seat = ready.next; seat !== null; seat = ready.next) {
      const look = nextPiece(seat, credit, nowMs, false, autoAck ? 0 : null);
      if ('batch' in look) return look;
      seat.foundNothing(look.blockedOn);
      ready.wait(seat, look.blockedOn);
      if (look.untilMs !== null) this.#wakeAt(look.untilMs, nowMs);
    }
    this.#block(ready.reason ?? this.#without());
    return null;
  }

  /** The reason of a member without partitions. */
  #without(): BlockedOn {
    return this.#o.member.stalled ? 'MAX_POLL_INTERVAL' : 'NO_ASSIGNMENT';
  }

  #deliver(piece: Piece): void {
    const { member, autoAck, clock } = this.#o;
    this.#lastBatchMs = clock.nowMs();
    member.given(this.#lastBatchMs);
    const field = handOut(piece, member.credit, this.#o.handOut, null);
    member.ready.served(piece.seat);
    this.blockedOn = null;
    this.#sentBlockedOn = null;
    this.#send({ type: 'batch', generation: this.#o.generation(), field });
    if (autoAck) this.#o.ackNow(piece);
  }

  #block(reason: BlockedOn): void {
    this.blockedOn = reason;
    // A new reason is sent early, but at most once a second, and not within a second after a batch.
    const due = Math.max(this.#lastBatchMs, this.#lastIdleMs) + idleFirstMs;
    if (this.#sentBlockedOn !== null && reason !== this.#sentBlockedOn) this.#armIdle(due - this.#o.clock.nowMs());
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
    // A client without heartbeats would take an open stream as a sign that this broker is the
    // owner.
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
    this.#untold.idle();
    this.#tell();
    this.#armIdle(idleIntervalMs);
  }

  #idleEvent(): StreamEvent {
    const { member, generation } = this.#o;
    const blockedOn = this.blockedOn ?? (member.seats.length === 0 ? this.#without() : 'CAUGHT_UP');
    this.#sentBlockedOn = blockedOn;
    let lag = 0;
    for (const { feed } of member.seats) lag += feed.cursor.lag(feed.log.endOffset);
    return {
      type: 'idle',
      generation: generation(),
      blockedOn,
      lag,
      inFlightRecords: member.credit.records,
      inFlightBytes: member.credit.bytes,
      partitions: member.seats.slice(0, idlePartitionsMax).map(({ feed }) => feed.status()),
    };
  }
}

/** @returns null if the gap has closed meanwhile. */
function gapEvent(generation: number, feed: Feed): StreamEvent | null {
  const gap = feed.tellGap();
  return gap === null ? null : { type: 'gap', generation, ...gap };
}

/** Lane 0 stands for a partition. */
function wholePartitions(seats: readonly Seat[]): Feed[] {
  return seats.flatMap(({ feed }) => (feed.key.lane === 0 ? [feed] : []));
}

function revocation(
  feeds: readonly Feed[],
): Pick<Extract<StreamEvent, { type: 'revoking' }>, 'partitions' | 'deadlineAtMs'> {
  const deadlines = feeds.map(({ seat }) => seat?.revokeDeadlineAtMs ?? Infinity);
  return { partitions: placesOf(feeds), deadlineAtMs: deadlines.reduce((a, b) => Math.min(a, b), Infinity) };
}
