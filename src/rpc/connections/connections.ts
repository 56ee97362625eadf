import type { Socket } from 'node:net';
import type { Account } from '../../account/account.ts';
import { connectionBytes } from '../../account/kinds.ts';
import type { Clock } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';
import { EarlyResets } from './early-resets.ts';
import { NativeSessions } from './native-sessions.ts';
import { RareWarning } from './rare-warning.ts';
import { ReceiveWindows } from './receive-windows.ts';
import { StreamTurns } from './stream-turns.ts';

interface ConnectionsOptions {
  readonly account: Account;
  readonly clock: Clock;
  readonly log: Pick<Logger, 'warn'>;
}

/** The open connections of both edges, in the account of memory. */
export class Connections {
  readonly #kind: ReturnType<Account['kind']>;
  readonly #refused: RareWarning;
  readonly windows: ReceiveWindows;
  readonly turns: StreamTurns;
  readonly natives: NativeSessions;

  constructor({ account, clock, log }: ConnectionsOptions) {
    this.#kind = account.kind('connections');
    this.#refused = new RareWarning(clock, log);
    this.windows = new ReceiveWindows(account);
    this.natives = new NativeSessions(clock);
    this.turns = new StreamTurns({ clock, account, resets: new EarlyResets(clock, log), natives: this.natives });
  }

  /** Counts a new connection until it is closed. False: there is no room, and it is closed. */
  admitted(socket: Socket): boolean {
    if (!this.#kind.take(connectionBytes)) {
      socket.destroy();
      const connectionsMax = Math.floor(this.#kind.bytesMax / connectionBytes);
      this.#refused.happened(
        (refused) => ({ refused, connectionsMax }),
        'new connections are closed: the broker has no memory for more',
      );
      return false;
    }
    socket.once('close', this.#closed);
    return true;
  }

  readonly #closed = (): void => {
    this.#kind.give(connectionBytes);
  };
}
