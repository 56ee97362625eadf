import type { OwnedKind } from '../../account/owner.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';

const lookMs = 100;

/** A stream whose requests wait in the transport while the broker does not read it. */
export interface BufferedBody {
  readonly stream: { readonly readableLength: number };
  /** How much of it was read until now. */
  readonly readBytes: number;
  /** The incomplete requests of its connection. */
  readonly room: OwnedKind;
  /** Called once. The transport then drops what waits. */
  refused(why: Rejection): void;
}

/** What a body has in the account, and by when how much of it must have been read. */
interface Waiting {
  counted: number;
  untilBytes: number;
  byMs: number;
}

/**
 * Counts what has arrived for streams of requests that the broker does not read at the moment: up
 * to a window of 4 MiB each. The broker reads no stream whose client does not read its answers, so
 * that bytes that nobody reads for long end their stream. No event tells of it, so one timer looks.
 */
export class BufferedBodies {
  readonly #clock: Clock;
  readonly #bodies = new Map<BufferedBody, Waiting>();
  #cancelTimer: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  begin(body: BufferedBody): void {
    this.#bodies.set(body, { counted: 0, untilBytes: 0, byMs: Infinity });
    if (this.#cancelTimer === null) this.#arm();
  }

  /** Idempotent. */
  over(body: BufferedBody): void {
    body.room.give(this.#bodies.get(body)?.counted ?? 0);
    this.#bodies.delete(body);
  }

  stop(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  #arm(): void {
    this.#cancelTimer = this.#clock.after(lookMs, () => {
      this.#cancelTimer = null;
      const nowMs = this.#clock.nowMs();
      for (const [body, waiting] of this.#bodies) this.#look(body, waiting, nowMs);
      if (this.#bodies.size > 0) this.#arm();
    });
  }

  #look(body: BufferedBody, waiting: Waiting, nowMs: number): void {
    const refusal = count(body, waiting) ?? late(body, waiting, nowMs);
    if (refusal === null) return;
    this.over(body);
    body.refused(refusal);
  }
}

function count({ stream, room }: BufferedBody, waiting: Waiting): Rejection | null {
  const more = stream.readableLength - waiting.counted;
  if (more < 0) room.give(-more);
  if (more > 0 && !room.take(more)) return room.refusal(more);
  waiting.counted += more;
  return null;
}

/** What waits has the time that an answer has which is as large. */
function late({ readBytes }: BufferedBody, waiting: Waiting, nowMs: number): Rejection | null {
  const { counted, untilBytes, byMs } = waiting;
  if (counted === 0 || byMs === Infinity || readBytes >= untilBytes) {
    waiting.untilBytes = readBytes + counted;
    const timeMs = limits.unreadAnswerMs + (1_000 * counted) / limits.answerReadBytesPerSecond;
    waiting.byMs = counted === 0 ? Infinity : nowMs + timeMs;
    return null;
  }
  if (nowMs < byMs) return null;
  return malformedRequest('the request waits behind answers that its client does not read');
}
