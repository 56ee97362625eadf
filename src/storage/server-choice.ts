import { shownHost, type DatabaseHost } from '../address/database-address.ts';
import { Fault } from '../errors/fault.ts';

/** One run of a server of PostgreSQL, as a session of it sees it. */
export interface ServerIdentity {
  /** How the session has reached it: with a looked-up address in place of the name. */
  readonly reached: DatabaseHost;
  /** The one of the connection string that led to it. */
  readonly named: DatabaseHost;
  /** The server's own address and port; null at a Unix socket. */
  readonly address: string | null;
  readonly port: number | null;
  /** When it was started, in microseconds: no two runs of servers have the same. */
  readonly startedUs: string;
  /** A replica that becomes a primary begins a new one, and so does a restored backup. */
  readonly timeline: string;
}

/**
 * On which server the sessions of a broker are. The session of the lease chooses it; every other one is on the same or is ended, so that
 * nothing is written to one of two servers that both believe to be the primary while the lease is at the other.
 */
export class ServerChoice {
  #chosen: ServerIdentity | null = null;
  readonly #leavers = new Set<() => void>();

  /** null: none was chosen yet. */
  get chosen(): ServerIdentity | null {
    return this.#chosen;
  }

  /** Called by the session of the lease. Sessions of another server end at once, in whatever they are doing. */
  choose(server: ServerIdentity): void {
    const moved = this.#chosen !== null && !sameRun(this.#chosen, server);
    this.#chosen = server;
    if (moved) for (const leave of this.#leavers) leave();
  }

  /** Calls `leave` whenever another server was chosen. */
  onMoved(leave: () => void): void {
    this.#leavers.add(leave);
  }

  admits(server: ServerIdentity): boolean {
    return this.#chosen === null || sameRun(this.#chosen, server);
  }

  /** @throws Fault if the server is not the chosen one. */
  admit(server: ServerIdentity): void {
    const chosen = this.#chosen;
    if (chosen === null || this.admits(server)) return;
    throw new Fault(
      'DATABASE_UNAVAILABLE',
      `the database at ${shownHost(server.named)} is not the server, or not the run of it, that the lease is held on (${shownHost(chosen.named)})`,
    );
  }
}

function sameRun(a: ServerIdentity, b: ServerIdentity): boolean {
  return a.startedUs === b.startedUs && sameHistory(a, b);
}

/** Whether what was committed on one is on the other: it is the same server, which may have been restarted meanwhile. */
export function sameHistory(a: ServerIdentity, b: ServerIdentity): boolean {
  return a.address === b.address && a.port === b.port && a.timeline === b.timeline;
}
