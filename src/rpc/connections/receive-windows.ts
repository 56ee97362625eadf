import type { Http2Session } from 'node:http2';
import type { Account } from '../../account/account.ts';
import { limits } from '../../limits/limits.ts';

/** The part of `bodies` that wide windows may fill while the broker reads none of them. */
const shareOfBodies = 3 / 4;

/**
 * How much a client may send before the broker reads it. HTTP/2 begins with 64 KiB, and one
 * connection publishes about three times as fast with more. What the broker does not read at the
 * moment is in memory, so that only as many connections have a wide window as there is room for:
 * those that publish first.
 */
export class ReceiveWindows {
  readonly #wideMax: number;
  readonly #wide = new Set<Http2Session>();

  constructor(account: Account) {
    const { bytesMax } = account.kind('bodies');
    this.#wideMax = Math.max(1, Math.floor((shareOfBodies * bytesMax) / limits.receiveWindowBytes));
  }

  /** Gives the connection, which publishes, a wide window for itself and each of its streams. */
  widen(session: Http2Session): void {
    if (this.#wide.has(session) || this.#wide.size >= this.#wideMax || session.destroyed || session.closed) return;
    this.#wide.add(session);
    session.once('close', () => {
      this.#wide.delete(session);
    });
    session.settings({ initialWindowSize: limits.receiveWindowBytes });
    session.setLocalWindowSize(limits.receiveWindowBytes);
  }
}
