import { shownHost, type DatabaseHost } from '../../address/database-address.ts';
import { Fault } from '../../errors/fault.ts';

/** One run of a PostgreSQL server, as one of its sessions sees it. */
export interface ServerIdentity {
  /** The host that the session connected to, with the looked-up address in place of a name. */
  readonly reached: DatabaseHost;
  /** The host of the connection string that led to this server. */
  readonly named: DatabaseHost;
  /** The address of the server, as the server reports it; null at a Unix socket. */
  readonly address: string | null;
  readonly port: number | null;
  /** The start of the run, in microseconds, because no two runs start at the same time. */
  readonly startedUs: string;
  /** The WAL timeline. A promoted replica begins a new one, and so does a restored backup. */
  readonly timeline: string;
}

/**
 * The server of all sessions of a broker. The session of the lease chooses it, and sessions on any
 * other server end. Otherwise, with two servers that both claim to be the primary, the broker could
 * write to one while its lease is on the other.
 */
export class ServerChoice {
  #chosen: ServerIdentity | null = null;
  #ownedOn: ServerIdentity | null = null;
  readonly #leavers = new Set<() => void>();

  /** The chosen server; null before the first choice. */
  get chosen(): ServerIdentity | null {
    return this.#chosen;
  }

  /** Whether this broker has taken over. */
  get owned(): boolean {
    return this.#ownedOn !== null;
  }

  /** Marks that this broker has taken over on `server`. */
  own(server: ServerIdentity): void {
    this.#ownedOn = server;
  }

  /**
   * Only the session of the lease calls this. Sessions on another server end at once. An owner goes
   * on after a restart of its server, but not on another server, which may lack what the owner has
   * in memory.
   *
   * @throws DatabaseMoved, and keeps the earlier choice.
   */
  choose(server: ServerIdentity): void {
    if (this.#ownedOn !== null && !sameHistory(this.#ownedOn, server)) throw new DatabaseMoved(this.#ownedOn, server);
    const moved = this.#chosen !== null && !sameRun(this.#chosen, server);
    this.#chosen = server;
    if (moved) for (const leave of this.#leavers) leave();
  }

  /** Calls `leave` whenever the choice changes to another server, or to another run of it. */
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
      `the database at ${shownHost(server.named)} is another server, or another run of it, than the one that has the lease (${shownHost(chosen.named)})`,
    );
  }
}

function sameRun(a: ServerIdentity, b: ServerIdentity): boolean {
  return a.startedUs === b.startedUs && sameHistory(a, b);
}

/**
 * Whether both are the same server, so that all commits on one are on the other. It may have
 * restarted.
 */
function sameHistory(a: ServerIdentity, b: ServerIdentity): boolean {
  return a.address === b.address && a.port === b.port && a.timeline === b.timeline;
}

/**
 * The owner finds its database on another server. Any broker may take it over there, after a fresh
 * start.
 */
export class DatabaseMoved extends Error {
  override readonly name = 'DatabaseMoved';

  constructor(ownedOn: ServerIdentity, found: ServerIdentity) {
    const [from, to] = [shownHost(ownedOn.named), shownHost(found.named)];
    const moved =
      from === to ? `the database at ${to} is another one now` : `the database has moved from ${from} to ${to}`;
    super(`${moved}, and has to be taken over anew`);
  }
}
