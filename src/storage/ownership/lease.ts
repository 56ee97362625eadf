import type { Client } from 'pg';
import type { DatabaseAddress } from '../../address/database-address.ts';
import type { LeaseRow, LeaseSight, LeaseStore, LockHolder } from '../../ownership/store.ts';
import type { Clock } from '../../time/clock.ts';
import { Every } from '../../time/every.ts';
import type { Logger } from '../../time/logger.ts';
import { within } from '../../time/within.ts';
import { answered } from '../pg/answered.ts';
import { writerSettings } from '../sessions/connection.ts';
import { endsConnection, faultOf, faultOfConnecting, sqlState } from '../pg/faults.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { endPredecessor, takeFence } from '../sessions/fence.ts';
import { DatabaseMoved, type ServerChoice } from '../sessions/server-choice.ts';
import { identityOf, openSession } from '../sessions/session.ts';
import { oneRow } from '../pg/one-row.ts';
import { endEpoch, giveUp } from './epochs.ts';

/** The owner's session has this advisory lock. The number must never change. */
const lockKey = 7_164_300;
/**
 * Longer than these statements take in a working database; a hanging one must not delay a standby.
 */
const answerMs = 3_000;
const endAgainMs = 500;
const goodbyeMs = 1_000;

const insufficientPrivilege = '42501';

interface LeaseStorageDeps {
  readonly address: DatabaseAddress;
  /** The session of the lease chooses it. */
  readonly server: ServerChoice;
  readonly brokerId: string;
  /** The slots of the write connections. A takeover makes a fence row for each. */
  readonly slots: readonly number[];
  readonly clock: Clock;
  /** Throws an error that is no Fault if a schema of that version is newer than this broker. */
  readonly checkVersion: (version: number) => void;
  readonly now: Now;
  readonly log: Pick<Logger, 'warn'>;
}

/** The lease in PostgreSQL. It has its own session, which keeps the lock until it ends. */
export class LeaseStorage implements LeaseStore {
  readonly #d: LeaseStorageDeps;
  #client: Client | null = null;
  #locked = false;
  /** Whether the lease names the present session. */
  #signed = false;
  #migrated = false;
  /** The owner that this broker saw last, for the log. */
  #predecessor: string | null = null;
  #listener: () => void = () => undefined;
  #closed = false;

  constructor(deps: LeaseStorageDeps) {
    this.#d = deps;
  }

  onUnlocked(listener: () => void): void {
    this.#listener = listener;
  }

  async tryLock(): Promise<boolean> {
    const signs = this.#d.server.owned && !this.#signed;
    if (this.#locked && !signs) return true;
    return this.#run(async (client) => {
      // PostgreSQL counts advisory locks: one that is taken twice needs two unlocks.
      if (!this.#locked) this.#locked = await takeLock(client);
      // After the owner lost its session, the lease must name the new one at once. Otherwise a
      // standby sees the lock in a foreign session.
      if (this.#locked && signs) {
        await signLease(client, this.#d.brokerId);
        this.#signed = true;
      }
      return this.#locked;
    });
  }

  async unlock(): Promise<void> {
    if (!this.#locked) return;
    await this.#run((client) => client.query('SELECT pg_advisory_unlock($1)', [lockKey]));
    this.#locked = false;
  }

  async read(): Promise<LeaseSight> {
    const { found, lockedBy } = await this.#run(async (client) => {
      // The look-up comes first, because a failed query logs an error in the server.
      this.#migrated ||= await hasLeaseTable(client);
      const found = this.#migrated ? await readLease(client, this.#d.now) : null;
      return { found, lockedBy: await readLockHolder(client, found) };
    });
    // A standby checks the version now, because it would otherwise fail at the takeover.
    if (found !== null) this.#d.checkVersion(found.version);
    this.#predecessor = found?.lease.broker ?? null;
    return { lease: found?.lease ?? null, locked: this.#locked, lockedBy };
  }

  evict(broker: string, ageMsMin: number): Promise<boolean> {
    return this.#run((client) => this.#ifAllowed(() => endLockHolder(client, broker, ageMsMin, this.#d.now)));
  }

  takeOver(seen: LeaseRow | null, patienceMs: number): Promise<number | null> {
    const { brokerId, slots, now } = this.#d;
    return this.#run(async (client) => {
      const epoch = await this.endingPredecessor(client, patienceMs, () =>
        raiseEpoch(client, brokerId, seen, slots, now),
      );
      if (epoch !== null) this.#d.server.own(identityOf(client).server);
      this.#signed = epoch !== null;
      return epoch;
    }, patienceMs + answerMs);
  }

  /** Runs `work`, and after `patienceMs` ends the predecessor's sessions that still block it. */
  async endingPredecessor<T>(client: Client, patienceMs: number, work: () => Promise<T>): Promise<T> {
    const ending = this.#losePatience(patienceMs, identityOf(client).pid);
    ending.start();
    try {
      return await work();
    } finally {
      // No await, because the work is done and the session that ends others may hang.
      void ending.stop();
    }
  }

  renew(epoch: number): Promise<boolean> {
    return this.#run(async (client) => {
      const { rowCount } = await client.query(
        `UPDATE millrace.broker_lease SET renewed_at = ${nowOf('$3')} WHERE broker = $1 AND epoch = $2`,
        [this.#d.brokerId, epoch, this.#d.now()],
      );
      return rowCount === 1;
    });
  }

  async release(epoch: number | null): Promise<void> {
    try {
      if (epoch !== null) await this.#run((client) => giveUp(client, this.#d.brokerId, epoch, this.#d.now));
    } finally {
      // The end of the session frees the lock, even if an unlock would not arrive.
      await this.close();
    }
  }

  /** Connects, and so chooses the server of all sessions of this broker. @throws Fault */
  reach(): Promise<void> {
    return this.#run(async () => undefined);
  }

  /** Ends the session, which frees the lock. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#drop();
  }

  async #run<T>(work: (client: Client) => Promise<T>, msMax = answerMs): Promise<T> {
    const client = await this.#connected();
    try {
      return await answered(client, { withinMs: msMax, clock: this.#d.clock }, work);
    } catch (error) {
      // A session that still works is kept, because its end would free the lock.
      if (sqlState(error) === null || endsConnection(error)) await this.#drop();
      throw faultOf(error, false);
    }
  }

  async #connected(): Promise<Client> {
    if (this.#closed) throw new Error('the lease was given up');
    try {
      this.#client ??= await this.#open('lease', true, (client) => {
        if (client === this.#client) this.#forget();
      });
      return this.#client;
    } catch (error) {
      // A move is final: this broker cannot own the database again.
      if (error instanceof DatabaseMoved) throw error;
      throw faultOfConnecting(error);
    }
  }

  #open(purpose: string, chooses: boolean, onEnd: (client: Client) => void): Promise<Client> {
    const { address, server, brokerId, clock } = this.#d;
    const applicationName = sessionName(brokerId, purpose);
    return openSession({ address, server, applicationName, settings: writerSettings, clock, chooses }, onEnd);
  }

  async #drop(): Promise<void> {
    const client = this.#client;
    this.#forget();
    if (client === null) return;
    // The wait is short, because a hanging server never closes the session.
    const ended = client.end().catch(() => undefined);
    await within(this.#d.clock, goodbyeMs, ended);
  }

  #forget(): void {
    const lost = this.#locked && !this.#closed;
    this.#client = null;
    this.#locked = this.#signed = false;
    if (lost) this.#listener();
  }

  /** From `ms` on, repeatedly ends the sessions that block the takeover of session `pid`. */
  #losePatience(ms: number, pid: number): Every {
    let delayMs = ms;
    return new Every({
      clock: this.#d.clock,
      delayMs: () => delayMs,
      run: () => {
        delayMs = endAgainMs;
        return this.#endPredecessor(pid);
      },
      onError: (error) => {
        this.#failedToEnd(error);
      },
    });
  }

  async #endPredecessor(pid: number): Promise<void> {
    // A second session ends them, because the first one waits for them.
    const client = await this.#open('takeover', false, () => undefined);
    try {
      await this.#ifAllowed(async () => {
        await endPredecessor(client, pid);
        return true;
      });
    } finally {
      await client.end();
    }
    const predecessor = this.#predecessor;
    this.#d.log.warn({ predecessor }, 'the broker before this one was still writing: its connections are ended');
  }

  #failedToEnd(error: unknown): void {
    const predecessor = this.#predecessor;
    this.#d.log.warn({ err: error, predecessor }, 'the connections of the broker before this one could not be ended');
  }

  /** Returns false if the role may not end the sessions of the predecessor's role. */
  async #ifAllowed(work: () => Promise<boolean>): Promise<boolean> {
    try {
      return await work();
    } catch (error) {
      if (sqlState(error) !== insufficientPrivilege) throw error;
      this.#d.log.warn({ err: error }, 'this role may not end the connections of the broker before it');
      return false;
    }
  }
}

/** The application_name of a session, for operators. */
export function sessionName(broker: string, purpose: string): string {
  return `millrace/${broker}/${purpose}`;
}

/** The name of a renewal: its time in microseconds, in a form that no session setting changes. */
const renewal = 'extract(epoch FROM renewed_at)::text AS renewal';

/** The condition on `pg_locks AS l` for the lock of the owner. */
const isOurLock = `l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = ${lockKey} AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

async function hasLeaseTable(client: Client): Promise<boolean> {
  const answer = await client.query<{ there: boolean }>(
    "SELECT to_regclass('millrace.broker_lease') IS NOT NULL AS there",
  );
  return oneRow(answer).there;
}

interface FoundLease {
  readonly lease: LeaseRow;
  /** The version of the schema. */
  readonly version: number;
  /** The session that had the lock for the owner; null in a row from before schema version 0006. */
  readonly session: { readonly pid: number; readonly startUs: string } | null;
}

/** The session, read through JSON, because a schema before version 0006 lacks these columns. */
const leaseSession = `(to_jsonb(b) ->> 'pid')::integer AS pid, (to_jsonb(b) ->> 'backend_start')::timestamptz AS backend_start`;

async function readLease(client: Client, now: Now): Promise<FoundLease | null> {
  const { rows } = await client.query<{
    broker: string;
    epoch: string;
    renewal: string;
    age_ms: number;
    pid: number | null;
    start_us: string | null;
    version: number;
  }>(
    `SELECT broker, epoch, ${renewal}, pid, (SELECT max(version) FROM millrace.migrations) AS version, (extract(epoch FROM backend_start) * 1000000)::bigint AS start_us,
            CASE WHEN renewed_at = '-infinity' THEN 'Infinity'
                 ELSE extract(epoch FROM ${nowOf('$1')} - renewed_at)::float8 * 1000 END AS age_ms
       FROM (SELECT broker, epoch, renewed_at, ${leaseSession} FROM millrace.broker_lease AS b) AS lease`,
    [now()],
  );
  const row = rows[0];
  if (row === undefined) return null;
  const { broker, epoch, renewal: renewedAt, age_ms: ageMs, pid, start_us: startUs, version } = row;
  return {
    version,
    lease: { broker, epoch: Number(epoch), ageMs, renewal: renewedAt },
    session: pid === null || startUs === null ? null : { pid, startUs },
  };
}

/** The lease's broker if the lease names the session, else the broker in its application_name. */
async function readLockHolder(client: Client, found: FoundLease | null): Promise<LockHolder | null> {
  const { rows } = await client.query<{ pid: number; start_us: string | null; application_name: string | null }>(
    `SELECT l.pid, (extract(epoch FROM a.backend_start) * 1000000)::bigint AS start_us, a.application_name
       FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid) WHERE ${isOurLock}`,
  );
  const holder = rows[0];
  if (holder === undefined) return null;
  const named = /^millrace\/(.+)\/[^/]*$/.exec(holder.application_name ?? '')?.[1] ?? null;
  if (found === null) return { broker: named };
  const { lease, session } = found;
  if (session === null) return { broker: null };
  if (holder.pid === session.pid && (holder.start_us ?? session.startUs) === session.startUs) {
    return { broker: lease.broker };
  }
  return { broker: named === null || named === lease.broker ? `process ${holder.pid} of the database` : named };
}

/**
 * Ends the session with the lock if the lease names it, is still of `broker`, and still is so old.
 * @returns false if the database does not show which session it is.
 */
async function endLockHolder(client: Client, broker: string, ageMsMin: number, now: Now): Promise<boolean> {
  const { rows } = await client.query<{ known: boolean }>(
    `SELECT CASE WHEN b.pid = l.pid AND b.backend_start = a.backend_start THEN pg_terminate_backend(l.pid) END,
            b.pid IS NOT NULL AND (b.pid <> l.pid OR a.backend_start IS NOT NULL) AS known
       FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid),
            (SELECT broker, renewed_at, ${leaseSession} FROM millrace.broker_lease AS b) AS b
      WHERE ${isOurLock} AND b.broker = $1 AND b.renewed_at <= ${nowOf('$3')} - $2 * interval '1 ms'`,
    [broker, ageMsMin, now()],
  );
  return rows[0]?.known ?? true;
}

async function takeLock(client: Client): Promise<boolean> {
  const answer = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [lockKey]);
  return oneRow(answer).locked;
}

/** Writes the session with the lock into the lease. */
async function signLease(client: Client, broker: string): Promise<void> {
  await client.query(
    `UPDATE millrace.broker_lease SET pid = a.pid, backend_start = a.backend_start
       FROM pg_stat_get_activity(pg_backend_pid()) AS a WHERE broker = $1`,
    [broker],
  );
}

/** One transaction, which locks the lease's row first, so that only one of several brokers wins. */
async function raiseEpoch(
  client: Client,
  broker: string,
  seen: LeaseRow | null,
  slots: readonly number[],
  now: Now,
): Promise<number | null> {
  try {
    await client.query('BEGIN');
    await client.query(
      "INSERT INTO millrace.broker_lease (broker, epoch, renewed_at) VALUES ($1, 0, '-infinity') ON CONFLICT DO NOTHING",
      [broker],
    );
    const answer = await client.query<{ epoch: string; renewal: string }>(
      `SELECT epoch, ${renewal} FROM millrace.broker_lease FOR UPDATE`,
    );
    const found = oneRow(answer);
    const epoch = Number(found.epoch);
    // The lease is compared again under the lock, because its owner may have renewed it.
    if (epoch !== (seen?.epoch ?? 0) || (seen !== null && found.renewal !== seen.renewal)) {
      await client.query('ROLLBACK');
      return null;
    }
    // This waits for the predecessor's transactions in flight.
    await takeFence(client, broker, epoch + 1, slots);
    await endEpoch(client);
    const values = [broker, epoch + 1, now()];
    await client.query(`UPDATE millrace.broker_lease SET broker = $1, epoch = $2, renewed_at = ${nowOf('$3')}`, values);
    await signLease(client, broker);
    await client.query('COMMIT');
    return epoch + 1;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}
