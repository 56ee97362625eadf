import type { OwnedKind } from '../../account/owner.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { AnswerRoom } from '../answers/answer-room.ts';
import { AnswerWork } from '../answers/answer-work.ts';
import type { RequestAnswer } from '../requests/request-facts.ts';
import { isClosed, type NodeResponse } from '../requests/universal-response.ts';

/** A connection with fewer unread bytes may be answered, however much others have not read. */
const smallBytes = 16_384;
/** Bytes become base64 in JSON, and a character of a text may need six bytes for one. */
const jsonGrowth = 6;

/** The answer of a request until its client has read it. The end of the response gives it back. */
export class OpenAnswer implements RequestAnswer {
  readonly #answers: OwnedKind;
  readonly #room: AnswerRoom;
  readonly #response: NodeResponse;
  readonly #growth: number;
  /** What is reserved, or what the transport has at the moment. */
  #bytes = 0;
  /** Of a stream: what the transport has not been given yet. */
  #waiting = 0;
  #work: AnswerWork | null = null;
  #closed = false;

  constructor(answers: OwnedKind, room: AnswerRoom, response: NodeResponse, json: boolean) {
    this.#answers = answers;
    this.#room = room;
    this.#response = response;
    this.#growth = json ? jsonGrowth : 1;
    response.once('close', () => {
      this.#closed = true;
      this.#give(this.#bytes + this.#waiting - (this.#work?.leave() ?? 0));
    });
  }

  get refusal(): Rejection | null {
    const answers = this.#answers;
    if (answers.bytes <= smallBytes || (!answers.isFull && !answers.isShortOf(1))) return null;
    return answers.refusal(1);
  }

  reserve(protobufBytes: number): Promise<void> | null {
    if (this.#isGone) throw this.#answers.refusal(protobufBytes);
    // Only the answer with a single record that is larger than a message is larger than a message.
    const bytes = Math.min(protobufBytes * this.#growth, limits.messageBytesMax);
    const waiting = this.#room.reserve(this.#answers, bytes);
    if (waiting !== null) return this.#reserved(waiting, bytes);
    this.#begin(bytes);
    return null;
  }

  worked(): void {
    this.#work?.end();
  }

  demand(bytes: number): void {
    const more = bytes - this.#bytes;
    if (this.#closed || more <= 0) return;
    if (!this.#answers.take(more)) {
      if (this.#answers.bytes + more > smallBytes) throw this.#answers.refusal(more);
      this.#answers.force(more);
    }
    this.#bytes += more;
  }

  sending(bytes: number): void {
    if (this.#closed) return;
    if (bytes > this.#bytes) this.#answers.force(bytes - this.#bytes);
    else this.#give(this.#bytes - bytes);
    this.#bytes = bytes;
  }

  waits(bytes: number): void {
    if (this.#closed) return;
    this.#answers.force(bytes);
    this.#waiting += bytes;
  }

  taken(bytes: number): void {
    if (this.#closed) return;
    this.#waiting -= bytes;
    this.#give(bytes);
  }

  async #reserved(waiting: Promise<void>, bytes: number): Promise<void> {
    await waiting;
    if (!this.#isGone) {
      this.#begin(bytes);
      return;
    }
    this.#give(bytes);
    throw this.#answers.refusal(bytes);
  }

  /** The responses of a lost connection close one after the other. */
  get #isGone(): boolean {
    return this.#closed || isClosed(this.#response);
  }

  #begin(bytes: number): void {
    this.#bytes += bytes;
    this.#work = new AnswerWork(this.#answers, this.#room, bytes);
  }

  #give(bytes: number): void {
    if (bytes === 0) return;
    this.#answers.give(bytes);
    this.#room.freed();
  }
}
