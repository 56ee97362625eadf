import { constants, type Http2Session, type ServerHttp2Stream } from 'node:http2';
import type { OwnedKind } from '../../account/owner.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import { AnswerRoom } from '../answers/answer-room.ts';
import { AnswerWork } from '../answers/answer-work.ts';
import type { ConnectionAccount } from '../connections/connection-accounts.ts';
import { Deadlines } from '../../time/deadlines.ts';

const openCall = Symbol('open call');
/** A connection with fewer unread bytes may be answered, however much others have not read. */
const smallBytes = 16_384;

/** What all calls of the gRPC edge share. */
export class OpenCalls {
  readonly room: AnswerRoom;
  readonly unread: Deadlines<OpenCall>;
  /** The connections without a call. */
  readonly idle: Deadlines<Http2Session>;

  constructor(clock: Clock) {
    this.room = new AnswerRoom(clock);
    this.unread = new Deadlines(clock, limits.unreadAnswerMs, (call) => {
      call.unread();
    });
    this.idle = new Deadlines(clock, limits.idleConnectionMs, (session) => {
      session.close();
    });
  }

  stop(): void {
    this.room.stop();
    this.unread.stop();
    this.idle.stop();
  }
}

/**
 * A call from its headers to its end: its place among the calls, and its answers that the client
 * has not read. All of it is given back when the stream closes.
 */
export class OpenCall {
  readonly account: ConnectionAccount;
  /** Its request, which ends with it. */
  body: { over(): void } | null = null;
  readonly #stream: ServerHttp2Stream;
  readonly #answers: OwnedKind;
  readonly #calls: OpenCalls;
  #bytes = 0;
  #work: AnswerWork | null = null;
  #closed = false;
  /** How often the time to read the answer begins again. */
  #patience = 0;

  private constructor(stream: ServerHttp2Stream, account: ConnectionAccount, calls: OpenCalls) {
    this.account = account;
    this.#stream = stream;
    this.#answers = account.answers;
    this.#calls = calls;
    stream.on('close', () => {
      this.#close();
    });
    (stream as OpenStream)[openCall] = this;
  }

  /** @returns why there is no room for it, or null. */
  static begin(stream: ServerHttp2Stream, account: ConnectionAccount, calls: OpenCalls): Rejection | null {
    const { streams } = account;
    if (!streams.take(limits.openCallBytes)) return streams.refusal(limits.openCallBytes);
    if (streams.bytes === limits.openCallBytes) calls.idle.over(account.session);
    new OpenCall(stream, account, calls);
    return null;
  }

  /** Of a call of grpc-js, whose stream is a private field. */
  static of(raw: object): OpenCall {
    return OpenCall.ofStream((raw as { readonly call: { readonly stream: ServerHttp2Stream } }).call.stream);
  }

  static ofStream(stream: ServerHttp2Stream): OpenCall {
    const open = (stream as OpenStream)[openCall];
    if (open === undefined) throw new Error('the gate has not seen the stream of a call');
    return open;
  }

  /** Why the call gets no answer before its client has read others, or null. */
  get refusal(): Rejection | null {
    const answers = this.#answers;
    if (answers.bytes <= smallBytes || (!answers.isFull && !answers.isShortOf(1))) return null;
    return answers.refusal(1);
  }

  /**
   * Takes room for an answer of at most so many bytes, before the work. Waits while the client
   * reads its other answers. Null: there is room.
   * @throws Rejection BROKER_BUSY, CONNECTION_BUSY
   */
  reserve(bytes: number): Promise<void> | null {
    if (this.#isGone) throw this.#answers.refusal(bytes);
    const waiting = this.#calls.room.reserve(this.#answers, bytes);
    if (waiting !== null) return this.#reserved(waiting, bytes);
    this.#begin(bytes);
    return null;
  }

  /** The work for which room was reserved has ended. */
  worked(): void {
    this.#work?.end();
  }

  /** Counts the answer in place of what was reserved. False: there is no room for it. */
  mayAnswer(bytes: number): boolean {
    this.worked();
    if (this.#closed) return true;
    const more = bytes - this.#bytes;
    if (more > 0 && !this.#answers.take(more)) {
      if (this.#answers.bytes + more > smallBytes) return false;
      this.#answers.force(more);
    }
    if (more < 0) this.#give(-more);
    else this.#bytes += more;
    this.#await(bytes);
    return true;
  }

  /** Why `mayAnswer` has said no. */
  refusalOf(bytes: number): Rejection {
    return this.#answers.refusal(bytes - this.#bytes);
  }

  /** Counts an answer, whose work is done, in any case. */
  answer(bytes: number): void {
    if (this.#closed) return;
    this.#answers.force(bytes);
    this.#bytes += bytes;
    this.#await(bytes);
  }

  /** The client has read so much of the answers of a stream. */
  read(bytes: number): void {
    if (this.#closed) return;
    this.#give(bytes);
    if (this.#bytes === 0) this.#calls.unread.over(this);
    else this.#calls.unread.begin(this);
  }

  /** An answer that nobody reads ends its stream. A large one may be read slowly. */
  unread(): void {
    if (this.#patience-- > 0) this.#calls.unread.begin(this);
    else this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  async #reserved(waiting: Promise<void>, bytes: number): Promise<void> {
    await waiting;
    if (!this.#isGone) {
      this.#begin(bytes);
      return;
    }
    this.#answers.give(bytes);
    this.#calls.room.freed();
    throw this.#answers.refusal(bytes);
  }

  /**
   * The streams of a lost connection are destroyed at once, and close one after the other: each
   * would let the next one work for nobody.
   */
  get #isGone(): boolean {
    return this.#closed || this.#stream.destroyed || this.#stream.closed;
  }

  #begin(bytes: number): void {
    this.#bytes += bytes;
    this.#work = new AnswerWork(this.#answers, this.#calls.room, bytes);
  }

  #await(bytes: number): void {
    this.#patience = Math.floor((bytes / limits.answerReadBytesPerSecond) * (1_000 / limits.unreadAnswerMs));
    this.#calls.unread.beginOnce(this);
  }

  #give(bytes: number): void {
    this.#bytes -= bytes;
    this.#answers.give(bytes);
    this.#calls.room.freed();
  }

  #close(): void {
    const { session, streams } = this.account;
    this.#closed = true;
    this.body?.over();
    this.#calls.unread.over(this);
    streams.give(limits.openCallBytes);
    if (streams.bytes === 0 && !session.destroyed) this.#calls.idle.begin(session);
    this.#bytes -= this.#work?.leave() ?? 0;
    if (this.#bytes > 0) this.#give(this.#bytes);
  }
}

type OpenStream = ServerHttp2Stream & { [openCall]?: OpenCall };
