import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import { identityOf, type SessionIdentity } from '../sessions/session.ts';

/** All tries together take longer than any commit in a working database. */
const triesMax = 500;
const pauseSeconds = 0.01;

/**
 * Sessions of the server that got an append, and whose answer was lost. Such an append may still
 * commit: beside its retry with the same idempotency key, or behind an end of the log that was read
 * before. So the broker ends these sessions before it reads the log, and then their outcome is
 * final.
 *
 * Process id and start identify a session. No client can set either, so a session that is not found
 * has ended.
 */
export class UnsettledSessions {
  readonly #sessions = new Set<SessionIdentity>();

  add(client: Client): void {
    this.#sessions.add(identityOf(client));
  }

  /**
   * Resolves when all sessions have ended. It must not run in a transaction, which keeps its first
   * list of sessions.
   *
   * @throws Fault
   */
  async end(client: Client): Promise<void> {
    if (this.#sessions.size === 0) return;
    const sessions = [...this.#sessions];
    for (let tries = 0; await terminate(client, sessions); tries++) {
      if (tries === triesMax) {
        throw new Fault('DATABASE_UNAVAILABLE', 'a database session that may still run an append does not end');
      }
    }
    for (const session of sessions) this.#sessions.delete(session);
  }
}

/**
 * Ends the sessions. A session whose start is hidden from this role may be another one with the
 * same process id and role, so it is not ended, but the caller waits for it.
 *
 * @returns whether a session may still be there. The list decides it, because ending a session
 * fails alike when it is about to end and when it stays.
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
