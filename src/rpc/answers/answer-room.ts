import type { OwnedKind } from '../../account/owner.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import { Deadlines } from '../../time/deadlines.ts';

/** A call that waits for room for its answer, before its work. */
interface Waiting {
  readonly answers: OwnedKind;
  readonly bytes: number;
  readonly begin: () => void;
  readonly refuse: (why: Rejection) => void;
}

/**
 * Room for answers that are large and not made yet. Calls of a client that reads its answers wait
 * for each other, in their order. A call that finds no room for some seconds is refused.
 */
export class AnswerRoom {
  readonly #clock: Clock;
  readonly #waiting = new Set<Waiting>();
  readonly #deadlines: Deadlines<Waiting>;
  #looks = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#deadlines = new Deadlines(clock, limits.answerRoomMs, (waiting) => {
      this.#waiting.delete(waiting);
      waiting.refuse(waiting.answers.refusal(waiting.bytes));
    });
  }

  /** @returns null if the bytes are taken at once. */
  reserve(answers: OwnedKind, bytes: number): Promise<void> | null {
    if (this.#waiting.size === 0 && answers.take(bytes)) return null;
    return new Promise((begin, refuse) => {
      const waiting = { answers, bytes, begin, refuse };
      this.#waiting.add(waiting);
      this.#deadlines.begin(waiting);
      this.freed();
    });
  }

  /**
   * To be called when bytes were given back. The next calls begin in a later turn of the event
   * loop: a client that leaves resets its calls one after the other, and each would let the next
   * one work for nobody.
   */
  freed(): void {
    if (this.#looks || this.#waiting.size === 0) return;
    this.#looks = true;
    this.#clock.soon(() => {
      this.#looks = false;
      this.#look();
    });
  }

  #look(): void {
    for (const waiting of this.#waiting) {
      const { answers, bytes, begin } = waiting;
      if (answers.isShortOf(bytes)) continue;
      if (!answers.take(bytes)) return;
      this.#waiting.delete(waiting);
      this.#deadlines.over(waiting);
      begin();
    }
  }

  stop(): void {
    this.#deadlines.stop();
  }
}
