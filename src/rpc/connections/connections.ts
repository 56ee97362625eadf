import type { Socket } from 'node:net';
import type { Account } from '../../account/account.ts';
import { connectionBytes } from '../../account/kinds.ts';
import type { Clock } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';
import { ReceiveWindows } from './receive-windows.ts';

/** The log names refused connections once in this time. */
const reportMs = 60_000;

interface ConnectionsOptions {
  readonly account: Account;
  readonly clock: Clock;
  readonly log: Pick<Logger, 'warn'>;
}

/** The open connections of both edges, in the account of memory. */
export class Connections {
  readonly #o: ConnectionsOptions;
  readonly #kind: ReturnType<Account['kind']>;
  readonly windows: ReceiveWindows;
  #refused = 0;
  #reportedMs = -Infinity;

  constructor(options: ConnectionsOptions) {
    this.#o = options;
    this.#kind = options.account.kind('connections');
    this.windows = new ReceiveWindows(options.account);
  }

  /** Counts a new connection until it is closed. False: there is no room, and it is closed. */
  admitted(socket: Socket): boolean {
    if (!this.#kind.take(connectionBytes)) {
      socket.destroy();
      this.#report();
      return false;
    }
    socket.once('close', this.#closed);
    return true;
  }

  readonly #closed = (): void => {
    this.#kind.give(connectionBytes);
  };

  #report(): void {
    this.#refused += 1;
    const nowMs = this.#o.clock.nowMs();
    if (nowMs - this.#reportedMs < reportMs) return;
    this.#reportedMs = nowMs;
    const connectionsMax = Math.floor(this.#kind.bytesMax / connectionBytes);
    this.#o.log.warn(
      { refused: this.#refused, connectionsMax },
      'new connections are closed: the broker has no memory for more',
    );
    this.#refused = 0;
  }
}
