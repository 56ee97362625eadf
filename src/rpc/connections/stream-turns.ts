import {
  constants,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Account } from '../../account/account.ts';
import type { Kind } from '../../account/kind.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import type { EarlyResets } from './early-resets.ts';
import type { NativeSessions } from './native-sessions.ts';
import { pauseReading, resumeReading } from './reading.ts';

type StreamEvent = [ServerHttp2Stream, IncomingHttpHeaders, number, string[]];
type OnStream = (...event: StreamEvent) => void;

const place = Symbol('place');
/** Where a stream stands. The streams of a connection that are begun in one turn share it. */
interface Place {
  readonly session: Http2Session;
  readonly turns: StreamTurns;
  /** Null while the stream waits. */
  readonly turn: number | null;
}
type NewStream = ServerHttp2Stream & { [place]?: Place };

interface StreamTurnsOptions {
  readonly clock: Clock;
  readonly account: Account;
  readonly resets: EarlyResets;
  readonly natives: NativeSessions;
}

/** The streams of a connection that wait for a turn, and how each is begun. */
type Waiting = Map<NewStream, () => void>;

/**
 * Begins new streams in turns of the event loop. A read of a socket may bring a thousand of them,
 * and Node begins each one before it has parsed the next frame, even if that frame resets it. In
 * each turn a number of streams is begun at once. The others wait until a later turn, in which the
 * connections alternate, and those that are reset before cost nothing more. A connection that has
 * more streams than its turn is not read until they are begun.
 *
 * The bodies come in turns too. Node reads a socket up to 32 times before it looks at the next
 * one, so that ten connections may bring 20 MB in one turn, and the small calls of others would
 * wait for all of it. Once a turn has brought enough, a connection is read no further than its
 * part, and goes on in the next turn. The bursts of a few publishers stay whole, since what
 * comes in one turn shares a transaction.
 */
export class StreamTurns {
  readonly #clock: Clock;
  readonly #kind: Kind;
  readonly #resets: EarlyResets;
  readonly #natives: NativeSessions;
  readonly #waiting = new Map<Http2Session, Waiting>();
  readonly #paused = new Set<Http2Session>();
  /** The bytes of bodies that each connection has brought in this turn. */
  readonly #read = new Map<Http2Session, number>();
  /** One for all streams, because each call has one. */
  readonly #onClose: (this: NewStream) => void;
  #allRead = 0;
  #turn = 0;
  #left = limits.streamsAtOnceMax;
  #isArmed = false;
  #last: Place | null = null;

  constructor({ clock, account, resets, natives }: StreamTurnsOptions) {
    this.#clock = clock;
    this.#kind = account.kind('streams');
    this.#resets = resets;
    this.#natives = natives;
    const closed = this.#closed.bind(this);
    this.#onClose = function onClose() {
      closed(this);
    };
  }

  /** Puts itself before those that listen to the streams of the server. @throws Error */
  attach(server: Http2Server): void {
    const served = server.listeners('stream') as OnStream[];
    if (served.length === 0) throw new Error('nobody listens to the streams of the server');
    server.removeAllListeners('stream');
    server.on('stream', (...event: StreamEvent) => {
      const [stream] = event;
      this.#arrived(stream, () => {
        for (const serve of served) serve.apply(server, event);
      });
    });
  }

  /** A body of the connection has brought so many bytes more. */
  received(session: Http2Session, bytes: number): void {
    this.#arm();
    const read = (this.#read.get(session) ?? 0) + bytes;
    this.#read.set(session, read);
    this.#allRead += bytes;
    if (this.#allRead >= limits.allReadAtOnceBytes && read >= limits.readAtOnceBytes) this.#pause(session);
  }

  #arrived(stream: NewStream, begin: () => void): void {
    const { session } = stream;
    if (stream.destroyed || stream.closed || session === undefined) {
      // Nobody waits for the answer any more, and an answer to a stream that was reset would throw.
      stream.on('error', ignore);
      return;
    }
    stream.on('close', this.#onClose);
    this.#arm();
    const isOver = this.#left <= 0;
    if (isOver) this.#pause(session);
    if (isOver || this.#waiting.has(session)) this.#wait(stream, session, begin);
    else this.#begin(stream, session, begin);
  }

  #begin(stream: NewStream, session: Http2Session, begin: () => void): void {
    this.#left -= 1;
    if (this.#last?.session !== session || this.#last.turn !== this.#turn) {
      this.#last = { session, turns: this, turn: this.#turn };
    }
    stream[place] = this.#last;
    begin();
  }

  #wait(stream: NewStream, session: Http2Session, begin: () => void): void {
    stream.on('error', ignore);
    stream[place] = { session, turns: this, turn: null };
    if (!this.#kind.take(limits.openCallBytes)) {
      // It is refused, or takes the room that is left.
      this.#begin(stream, session, begin);
      return;
    }
    const waiting = this.#waiting.get(session);
    if (waiting === undefined) this.#waiting.set(session, new Map([[stream, begin]]));
    else waiting.set(stream, begin);
  }

  #pause(session: Http2Session): void {
    if (this.#paused.has(session)) return;
    this.#paused.add(session);
    pauseReading(session);
  }

  #closed(stream: NewStream): void {
    const { [place]: at, rstCode, headersSent, writableLength } = stream;
    if (at === undefined) return;
    if (writableLength > 0) this.#natives.leaveUnwritten(at.session);
    if (at.turn === null) this.#forget(stream, at.session);
    const isEarly = at.turn === null || at.turn === this.#turn;
    if (isEarly && (rstCode !== constants.NGHTTP2_NO_ERROR || !headersSent)) this.#resets.count(at.session);
  }

  #forget(stream: NewStream, session: Http2Session): void {
    const waiting = this.#waiting.get(session);
    if (waiting?.delete(stream) !== true) return;
    this.#kind.give(limits.openCallBytes);
    if (waiting.size === 0) this.#waiting.delete(session);
  }

  #arm(): void {
    if (this.#isArmed) return;
    this.#isArmed = true;
    this.#clock.soon(() => {
      this.#isArmed = false;
      this.#left = limits.streamsAtOnceMax;
      this.#read.clear();
      this.#allRead = 0;
      this.#beginWaiting();
      this.#readOn();
      this.#turn += 1;
      this.#last = null;
    });
  }

  /** A connection whose streams still wait comes behind the others. */
  #beginWaiting(): void {
    for (const [session, waiting] of this.#waiting) {
      if (this.#left <= 0) break;
      this.#waiting.delete(session);
      for (const [stream, begin] of waiting) {
        waiting.delete(stream);
        if (waiting.size > 0) this.#waiting.set(session, waiting);
        this.#kind.give(limits.openCallBytes);
        this.#begin(stream, session, begin);
        // Node ends an empty body before anybody reads it. Those that listen now have missed it.
        if (stream.readableEnded) stream.emit('end');
        break;
      }
    }
    if (this.#waiting.size > 0) this.#arm();
  }

  #readOn(): void {
    for (const session of this.#paused) {
      if (this.#waiting.has(session)) continue;
      this.#paused.delete(session);
      resumeReading(session);
    }
  }
}

/** Of a stream that nobody listens to, and whose client has reset it. */
function ignore(): void {
  // There is nothing to do, and without a listener the process would end.
}

/** To be called with each piece of a body that a stream has brought. */
export function countRead(stream: ServerHttp2Stream, bytes: number): void {
  const at = (stream as NewStream)[place];
  at?.turns.received(at.session, bytes);
}
