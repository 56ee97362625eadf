import type { Client } from 'pg';
import type { LeaseRow, LeaseSight, LeaseStore, LockHolder } from '../ownership/store.ts';
import type { Clock } from '../time/clock.ts';
import { answered, connect, writerSettings } from './connection.ts';
import { endsConnection, faultOf, faultOfConnecting, sqlState } from './faults.ts';
import { takeFence } from './fence.ts';

/** The owner's session holds this lock of the database. Any number, but always this one. */
const lockKey = 7_164_300;
/** Longer than any of these statements takes in a database that works: one that hangs must not hold a standby up. */
const answerMs = 3_000;
const endAgainMs = 500;
const goodbyeMs = 1_000;

const insufficientPrivilege = '42501';

export interface LeaseStorageDeps {
  readonly connectionString: string;
  readonly brokerId: string;
  /** Slots of the write connections that a takeover makes fence rows for. */
  readonly slots: readonly number[];
  readonly clock: Clock;
  readonly log: { warn(fields: object, message: string): void };
}

/** The lease in PostgreSQL: a session of its own, which holds the lock for as long as it lives. */
export class LeaseStorage implements LeaseStore {
  readonly #d: LeaseStorageDeps;
  #client: Client | null = null;
  #locked = false;
  #migrated = false;
  #listener: () => void = () => undefined;
  #closed = false;

  constructor(deps: LeaseStorageDeps) {
    this.#d = deps;
  }

  onUnlocked(listener: () => void): void {
    this.#listener = listener;
  }

  async tryLock(): Promise<boolean> {
    // Taken twice it would have to be given back twice.
    if (this.#locked) return true;
    return this.#run(async (client) => {
      const { rows } = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [lockKey]);
      this.#locked = rows[0]!.locked;
      return this.#locked;
    });
  }

  async unlock(): Promise<void> {
    if (!this.#locked) return;
    await this.#run((client) => client.query('SELECT pg_advisory_unlock($1)', [lockKey]));
    this.#locked = false;
  }

  read(): Promise<LeaseSight> {
    return this.#run(async (client) => {
      // Asked for, and not tried: the server would log an error at the first start of everybody.
      this.#migrated ||= await hasLeaseTable(client);
      const lease = this.#migrated ? await readLease(client) : null;
      return { lease, locked: this.#locked, lockedBy: await readLockHolder(client) };
    });
  }

  evict(broker: string, ageMsMin: number): Promise<boolean> {
    return this.#run((client) => this.#ifAllowed(() => endLockHolder(client, broker, ageMsMin)));
  }

  takeOver(seen: LeaseRow | null, patienceMs: number): Promise<number | null> {
    const { brokerId, slots } = this.#d;
    return this.#run(async (client) => {
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      const stop = this.#losePatience(patienceMs, rows[0]!.pid, seen?.broker ?? brokerId);
      try {
        return await raiseEpoch(client, brokerId, seen, slots);
      } finally {
        stop();
      }
    }, patienceMs + answerMs);
  }

  renew(epoch: number): Promise<boolean> {
    return this.#run(async (client) => {
      const { rowCount } = await client.query(
        'UPDATE millrace.broker_lease SET renewed_at = clock_timestamp() WHERE broker = $1 AND epoch = $2',
        [this.#d.brokerId, epoch],
      );
      return rowCount === 1;
    });
  }

  async release(epoch: number | null): Promise<void> {
    try {
      if (epoch !== null) await this.#run((client) => giveUp(client, this.#d.brokerId, epoch));
    } finally {
      // The end of the session is the end of the lock, also where an unlock would not get through.
      await this.close();
    }
  }

  /** Ends the session, and the lock with it. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#drop();
  }

  async #run<T>(work: (client: Client) => Promise<T>, msMax = answerMs): Promise<T> {
    const client = await this.#connected();
    try {
      return await answered(client, { withinMs: msMax, clock: this.#d.clock }, work);
    } catch (error) {
      // A session that the server still serves goes on, and keeps the lock.
      if (sqlState(error) === null || endsConnection(error)) await this.#drop();
      throw faultOf(error, false);
    }
  }

  async #connected(): Promise<Client> {
    if (this.#closed) throw new Error('the lease was given up');
    try {
      this.#client ??= await this.#connect('lease', (client) => {
        if (client === this.#client) this.#forget();
      });
      return this.#client;
    } catch (error) {
      throw faultOfConnecting(error);
    }
  }

  #connect(purpose: string, onEnd: (client: Client) => void): Promise<Client> {
    const { connectionString, brokerId } = this.#d;
    const applicationName = sessionPrefix(brokerId) + purpose;
    return connect({ connectionString, applicationName, settings: writerSettings }, onEnd);
  }

  async #drop(): Promise<void> {
    const client = this.#client;
    this.#forget();
    if (client === null) return;
    // A server that hangs does not say goodbye.
    const waited = Promise.withResolvers<void>();
    const cancel = this.#d.clock.after(goodbyeMs, waited.resolve);
    await Promise.race([client.end().catch(() => undefined), waited.promise]);
    cancel();
  }

  #forget(): void {
    const lost = this.#locked && !this.#closed;
    this.#client = null;
    this.#locked = false;
    if (lost) this.#listener();
  }

  /** Ends what keeps the takeover of session `pid` waiting, from `ms` on, again and again until it is told to stop. */
  #losePatience(ms: number, pid: number, predecessor: string): () => void {
    let stopped = false;
    let cancel = (): void => undefined;
    const end = async (): Promise<void> => {
      await this.#endPredecessor(pid, predecessor);
      if (!stopped) cancel = this.#d.clock.after(endAgainMs, () => void end());
    };
    cancel = this.#d.clock.after(ms, () => void end());
    return () => {
      stopped = true;
      cancel();
    };
  }

  async #endPredecessor(pid: number, predecessor: string): Promise<void> {
    try {
      // From a second session, because the first one waits for what is to be ended.
      const client = await this.#connect('takeover', () => undefined);
      try {
        await this.#ifAllowed(() => endBlockers(client, pid, this.#d.brokerId, predecessor));
      } finally {
        await client.end();
      }
      this.#d.log.warn({ predecessor }, 'the broker before this one was still writing: its connections are ended');
    } catch (error) {
      this.#d.log.warn({ err: error, predecessor }, 'the connections of the broker before this one could not be ended');
    }
  }

  /** False: the role may not end the other's backends. */
  async #ifAllowed(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (sqlState(error) !== insufficientPrivilege) throw error;
      this.#d.log.warn({ err: error }, 'this role may not end the connections of the broker before it');
      return false;
    }
  }
}

/** The application_name of a broker's sessions, up to their purpose. */
export function sessionPrefix(broker: string): string {
  return `millrace/${broker}/`;
}

/** What names a renewal: its time to the microsecond, in a form that no setting of a session changes. */
const renewal = 'extract(epoch FROM renewed_at)::text AS renewal';

/** A condition on `pg_locks AS l`. */
const isOurLock = `l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = ${lockKey} AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

async function hasLeaseTable(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ there: boolean }>(
    "SELECT to_regclass('millrace.broker_lease') IS NOT NULL AS there",
  );
  return rows[0]!.there;
}

async function readLease(client: Client): Promise<LeaseRow | null> {
  const { rows } = await client.query<{ broker: string; epoch: string; renewal: string; age_ms: number }>(
    `SELECT broker, epoch, ${renewal},
            CASE WHEN renewed_at = '-infinity' THEN 'Infinity'
                 ELSE extract(epoch FROM clock_timestamp() - renewed_at)::float8 * 1000 END AS age_ms
       FROM millrace.broker_lease`,
  );
  const row = rows[0];
  if (row === undefined) return null;
  return { broker: row.broker, epoch: Number(row.epoch), ageMs: row.age_ms, renewal: row.renewal };
}

async function readLockHolder(client: Client): Promise<LockHolder | null> {
  const { rows } = await client.query<{ application_name: string | null }>(
    `SELECT a.application_name FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid) WHERE ${isOurLock}`,
  );
  const holder = rows[0];
  if (holder === undefined) return null;
  return { broker: /^millrace\/(.+)\/[^/]*$/.exec(holder.application_name ?? '')?.[1] ?? null };
}

/** Only if the lease still is what it was judged by. */
async function endLockHolder(client: Client, broker: string, ageMsMin: number): Promise<void> {
  await client.query(
    `SELECT pg_terminate_backend(pid) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
      WHERE ${isOurLock} AND starts_with(a.application_name, $1)
        AND EXISTS (SELECT FROM millrace.broker_lease AS b
                     WHERE b.broker = $2 AND b.renewed_at <= clock_timestamp() - $3 * interval '1 ms')`,
    [sessionPrefix(broker), broker, ageMsMin],
  );
}

/**
 * All sessions of the predecessor. Sessions of this broker's own name only if the takeover waits for them: they are what
 * is left of an earlier try, or of a process that ran under the same name.
 */
async function endBlockers(client: Client, pid: number, broker: string, predecessor: string): Promise<void> {
  await client.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid NOT IN ($1, pg_backend_pid())
        AND CASE WHEN starts_with(application_name, $2) THEN pid = ANY (pg_blocking_pids($1))
                 ELSE starts_with(application_name, $3) END`,
    [pid, sessionPrefix(broker), sessionPrefix(predecessor)],
  );
}

/** One transaction: the lease's row is locked first, so that of several brokers one comes first. */
async function raiseEpoch(
  client: Client,
  broker: string,
  seen: LeaseRow | null,
  slots: readonly number[],
): Promise<number | null> {
  try {
    await client.query('BEGIN');
    await client.query(
      "INSERT INTO millrace.broker_lease (broker, epoch, renewed_at) VALUES ($1, 0, '-infinity') ON CONFLICT DO NOTHING",
      [broker],
    );
    const { rows } = await client.query<{ epoch: string; renewal: string }>(
      `SELECT epoch, ${renewal} FROM millrace.broker_lease FOR UPDATE`,
    );
    const epoch = Number(rows[0]!.epoch);
    // Judged again under the lock: the owner may have renewed its lease since.
    if (epoch !== (seen?.epoch ?? 0) || (seen !== null && rows[0]!.renewal !== seen.renewal)) {
      await client.query('ROLLBACK');
      return null;
    }
    // Waits for the transactions that the predecessor has in flight.
    await takeFence(client, broker, epoch + 1, slots);
    await client.query('UPDATE millrace.broker_lease SET broker = $1, epoch = $2, renewed_at = clock_timestamp()', [
      broker,
      epoch + 1,
    ]);
    await client.query('COMMIT');
    return epoch + 1;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

async function giveUp(client: Client, broker: string, epoch: number): Promise<void> {
  await client.query("UPDATE millrace.broker_lease SET renewed_at = '-infinity' WHERE broker = $1 AND epoch = $2", [
    broker,
    epoch,
  ]);
}
