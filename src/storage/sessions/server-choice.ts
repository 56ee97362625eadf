import { shownHost, type DatabaseHost } from '../../address/database-address.ts';
import { Fault } from '../../errors/fault.ts';

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
  #ownedOn: ServerIdentity | null = null;
  readonly #leavers = new Set<() => void>();

  /** null: none was chosen yet. */
  get chosen(): ServerIdentity | null {
    return this.#chosen;
  }

  /** Whether this broker has taken over. */
  get owned(): boolean {
    return this.#ownedOn !== null;
  }

  /** This broker has taken over on the server that it has chosen. */
  own(server: ServerIdentity): void {
    this.#ownedOn = server;
  }

  /**
   * Called by the session of the lease. Sessions of another server end at once, in whatever they are doing.
   *
   * An owner goes on after a restart of its server, and not on another one: what it knows of the log and the groups need not be there.
   *
   * @throws DatabaseMoved; then the choice is what it was.
   */
  choose(server: ServerIdentity): void {
    if (this.#ownedOn !== null && !sameHistory(this.#ownedOn, server)) throw new DatabaseMoved(this.#ownedOn, server);
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
function sameHistory(a: ServerIdentity, b: ServerIdentity): boolean {
  return a.address === b.address && a.port === b.port && a.timeline === b.timeline;
}

/** This broker's database is on another server now, or is another one: it has to be taken over anew, by whichever broker comes first. */
export class DatabaseMoved extends Error {
  override readonly name = 'DatabaseMoved';

  constructor(ownedOn: ServerIdentity, found: ServerIdentity) {
    const [from, to] = [shownHost(ownedOn.named), shownHost(found.named)];
    const moved =
      from === to ? `the database at ${to} is another one now` : `the database has moved from ${from} to ${to}`;
    super(`${moved}, and has to be taken over anew`);
  }
}
