import type { Http2Server, Http2Session } from 'node:http2';
import type { Clock } from '../../time/clock.ts';

/** Sessions that wait for the collector. Those of clients that left a full socket are rare. */
const waitingMax = 1_000;

/**
 * The second cannot have begun before the first was over. The first may have begun before the
 * session was closed, and leave what was still in use then.
 */
const collectionsMin = 2;

/** Null when it is let go early, because too many wait. */
interface Waiting {
  native: object | null;
  collections: number;
}

/**
 * Keeps Node's native part of a closed session until those of its streams are gone.
 *
 * Node lets go of the session at once, and of its streams in a later turn of the event loop, or
 * with the garbage when an answer of theirs is still on its way into the socket. A stream whose
 * last headers were cut short or wrong has them in memory of the session. If the collector takes
 * the session first, Node misses that memory and aborts the process:
 * `~Http2Session(): Assertion failed: (current_nghttp2_memory_) == (0)`. Any client can bring that
 * about.
 */
export class NativeSessions {
  readonly #clock: Clock;
  readonly #closed = new Set<object>();
  readonly #unwritten = new WeakSet<Http2Session>();
  /** The oldest first. */
  readonly #waiting = new Set<Waiting>();
  readonly #collected = new FinalizationRegistry<Waiting>((waiting) => {
    this.#collectedOnce(waiting);
  });

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  attach(server: Http2Server): void {
    server.on('session', (session) => {
      this.keep(session);
    });
  }

  keep(session: Http2Session): void {
    const native = nativeOf(session);
    if (native === null) return;
    session.once('close', () => {
      this.#closed.add(native);
      // Node frees the streams in this turn, before it begins the next one.
      this.#clock.soon(() => {
        this.#closed.delete(native);
        if (this.#unwritten.has(session)) this.#wait({ native, collections: 0 });
      });
    });
  }

  /** A stream of the session has ended with an answer that is not all in the socket. */
  leaveUnwritten(session: Http2Session): void {
    this.#unwritten.add(session);
  }

  #wait(waiting: Waiting): void {
    this.#waiting.add(waiting);
    this.#awaitCollection(waiting);
    for (const oldest of this.#waiting) {
      if (this.#waiting.size <= waitingMax) break;
      this.#letGo(oldest);
    }
  }

  /** Nobody has the new object, so the next full collection takes it. */
  #awaitCollection(waiting: Waiting): void {
    this.#collected.register({}, waiting);
  }

  #collectedOnce(waiting: Waiting): void {
    waiting.collections += 1;
    if (waiting.native === null) return;
    if (waiting.collections < collectionsMin) this.#awaitCollection(waiting);
    else this.#letGo(waiting);
  }

  #letGo(waiting: Waiting): void {
    this.#waiting.delete(waiting);
    waiting.native = null;
  }
}

/** The field has no public name. Null of a session that has ended. */
function nativeOf(session: Http2Session): object | null {
  const name = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'kHandle');
  if (name === undefined) return null;
  return (session as unknown as Record<symbol, object | undefined>)[name] ?? null;
}
