import type { Hold } from '../../account/hold.ts';
import type { OwnedKind } from '../../account/owner.ts';
import type { AnswerRoom } from './answer-room.ts';

/**
 * The work on an answer for which room was reserved. A client that leaves does not end the work. So
 * its bytes stay counted until then, although the connection gives back all that it holds, and the
 * next call does not begin in its place.
 */
export class AnswerWork {
  readonly #answers: OwnedKind;
  readonly #room: AnswerRoom;
  readonly #bytes: number;
  #left: Hold | null = null;
  #ended = false;

  constructor(answers: OwnedKind, room: AnswerRoom, bytes: number) {
    this.#answers = answers;
    this.#room = room;
    this.#bytes = bytes;
  }

  /** The client has left. @returns the bytes that its call must not give back. */
  leave(): number {
    if (this.#ended || this.#left !== null) return 0;
    this.#left = this.#answers.leave(this.#bytes);
    return this.#bytes;
  }

  /** The answer is made, or has failed. Idempotent. */
  end(): void {
    this.#ended = true;
    if (this.#left === null) return;
    this.#left.release();
    this.#room.freed();
  }
}
