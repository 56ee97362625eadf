import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import { identityOf, type SessionIdentity } from '../sessions/session.ts';

/** Longer together than any commit takes in a database that works. */
const triesMax = 500;
const pauseSeconds = 0.01;

/**
 * Sessions of the server that were given an append and whose answer was lost. Such an append may still be on its way: carried out
 * later it would stand beside its repetition with the same idempotency key, and behind the end of the log that was read
 * meanwhile. So the sessions are ended before that is read; then what they did is done, and what they did not is not.
 *
 * A session is known by its process id and its start: nobody can set either, so one that is not found has ended.
 */
export class UnsettledSessions {
  readonly #sessions = new Set<SessionIdentity>();

  add(client: Client): void {
    this.#sessions.add(identityOf(client));
  }

  /** Resolves when they are gone. Not in a transaction, which would see the sessions as they were at first. @throws Fault */
  async end(client: Client): Promise<void> {
    if (this.#sessions.size === 0) return;
    const sessions = [...this.#sessions];
    for (let tries = 0; await terminate(client, sessions); tries++) {
      if (tries === triesMax) {
        throw new Fault('DATABASE_UNAVAILABLE', 'a session of the database that was given an append does not end');
      }
    }
    for (const session of sessions) this.#sessions.delete(session);
  }
}

/**
 * @returns whether one may still be there. Only the list says so: to end one that is going already fails like one that stays. The list shows
 * process and role of every session to everybody, and its start only to some: where it is hidden, a session of the same role may be
 * the one that is looked for, so it is waited for and not ended.
 */
async function terminate(client: Client, sessions: readonly SessionIdentity[]): Promise<boolean> {
  const { rowCount } = await client.query(
    `SELECT CASE WHEN a.backend_start IS NOT NULL THEN pg_terminate_backend(a.pid) END, pg_sleep($4)
       FROM pg_stat_activity AS a
       JOIN unnest($1::integer[], $2::bigint[], $3::text[]) AS s (pid, start_us, role_id) ON s.pid = a.pid
      WHERE (extract(epoch FROM a.backend_start) * 1000000)::bigint = s.start_us
         OR (a.backend_start IS NULL AND a.usesysid::text = s.role_id)`,
    [
      sessions.map(({ pid }) => pid),
      sessions.map(({ startUs }) => startUs),
      sessions.map(({ roleId }) => roleId),
      pauseSeconds,
    ],
  );
  return rowCount !== 0;
}
