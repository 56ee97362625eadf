import type { OwnedKind } from '../../account/owner.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import type { Clock } from '../../time/clock.ts';

const lookMs = 100;

/** A stream whose requests wait in the transport while the broker does not read it. */
interface BufferedBody {
  readonly stream: { readonly readableLength: number };
  /** The incomplete requests of its connection. */
  readonly room: OwnedKind;
  /** Called once. The transport then drops what waits. */
  refused(why: Rejection): void;
}

/**
 * Counts what has arrived for streams of requests that the broker does not read at the moment: up
 * to a window of 4 MiB each. No event tells of it, so one timer looks.
 */
export class BufferedBodies {
  readonly #clock: Clock;
  readonly #counted = new Map<BufferedBody, number>();
  #cancelTimer: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  begin(body: BufferedBody): void {
    this.#counted.set(body, 0);
    if (this.#cancelTimer === null) this.#arm();
  }

  /** Idempotent. */
  over(body: BufferedBody): void {
    body.room.give(this.#counted.get(body) ?? 0);
    this.#counted.delete(body);
  }

  stop(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  #arm(): void {
    this.#cancelTimer = this.#clock.after(lookMs, () => {
      this.#cancelTimer = null;
      for (const [body, counted] of this.#counted) this.#look(body, counted);
      if (this.#counted.size > 0) this.#arm();
    });
  }

  #look(body: BufferedBody, counted: number): void {
    const { room } = body;
    const bytes = body.stream.readableLength;
    const more = bytes - counted;
    if (more === 0) return;
    if (more < 0) room.give(-more);
    else if (!room.take(more)) {
      this.over(body);
      body.refused(room.refusal(more));
      return;
    }
    this.#counted.set(body, bytes);
  }
}
