import { constants, type Http2Session } from 'node:http2';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';
import { Allowance } from './allowance.ts';
import { RareWarning } from './rare-warning.ts';

const ofOne = { burst: limits.earlyResetBurst, perSecond: limits.earlyResetsPerSecond };
const ofAll = { burst: limits.allEarlyResetBurst, perSecond: limits.allEarlyResetsPerSecond };

/**
 * Streams that end before the broker has begun with them. They cost their client almost nothing,
 * and a client that waits for its answers hardly makes them. Each connection has an allowance, and
 * all of them share another. A connection that goes beyond either is closed, except that the shared
 * allowance is nothing to a connection that makes few.
 */
export class EarlyResets {
  readonly #clock: Clock;
  readonly #all: Allowance;
  readonly #ofConnection = new WeakMap<Http2Session, Allowance>();
  readonly #warning: RareWarning;

  constructor(clock: Clock, log: Pick<Logger, 'warn'>) {
    this.#clock = clock;
    this.#all = new Allowance(clock, ofAll);
    this.#warning = new RareWarning(clock, log);
  }

  count(session: Http2Session): void {
    if (session.destroyed) return;
    const own = this.#allowanceOf(session);
    const isWithinAll = this.#all.spend();
    if (own.spend() && (isWithinAll || own.used <= limits.freeEarlyResets)) return;
    this.#close(session);
  }

  #allowanceOf(session: Http2Session): Allowance {
    let own = this.#ofConnection.get(session);
    if (own === undefined) {
      own = new Allowance(this.#clock, ofOne);
      this.#ofConnection.set(session, own);
    }
    return own;
  }

  /** Node parses nothing any more of what it has read from the connection. */
  #close(session: Http2Session): void {
    const peer = session.socket.remoteAddress;
    session.destroy(resetsTooMany(), constants.NGHTTP2_ENHANCE_YOUR_CALM);
    this.#warning.happened(
      (connections) => ({ connections, peer }),
      'connections are closed: their clients open calls and reset them at once',
    );
  }
}

/** With the code of Node's own errors of sessions, which are no bugs of the broker. */
function resetsTooMany(): Error {
  const error = new Error('the client opens calls and resets them at once');
  return Object.assign(error, { code: 'ERR_HTTP2_SESSION_ERROR' });
}
