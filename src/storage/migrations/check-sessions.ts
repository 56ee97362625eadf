import type { Client, ClientBase } from 'pg';
import type { Connection } from '../sessions/connection.ts';
import { UnfitDatabase } from './migrate.ts';
import { oneRow } from '../pg/one-row.ts';

/** Several rounds, because a pooler may give two clients the right backends by chance. */
const rounds = 3;

/**
 * Checks that a session stays on one backend, which keeps its locks and prepared statements. In a
 * pooler's transaction mode, another client's transaction takes the backend away. The check takes
 * no lock, because the pooler would keep it.
 *
 * @throws UnfitDatabase
 */
export async function checkSessions(one: Connection, other: Connection): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const stays = await one.run((first) => other.run((second) => keepsItsBackend(first, second)));
    if (stays) continue;
    throw new UnfitDatabase(
      'the database is behind a pooler that gives each transaction another session (transaction mode): name the PostgreSQL server itself, or use the pooler in session mode',
    );
  }
}

async function keepsItsBackend(first: Client, second: Client): Promise<boolean> {
  const own = await backendOf(first);
  await second.query('BEGIN');
  try {
    return (await backendOf(second)) !== own && (await backendOf(first)) === own;
  } finally {
    await second.query('COMMIT').catch(() => undefined);
  }
}

async function backendOf(client: Client): Promise<number> {
  return oneRow(await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).pid;
}

/** How many more sessions this role can open in this database, and the limit that decides it. */
export async function sessionsLeft(client: ClientBase): Promise<{ left: number; limit: string }> {
  const answer = await client.query<{ left: number; limit: string }>(
    `WITH used AS (
       SELECT count(*) AS all_of_it, count(*) FILTER (WHERE datname = current_database()) AS of_database,
              count(*) FILTER (WHERE usename = current_user) AS of_role
         FROM pg_stat_activity WHERE datid IS NOT NULL
     ), role AS (
       SELECT rolsuper, rolconnlimit FROM pg_roles WHERE rolname = current_user
     ), limits (name, left_over) AS (
       SELECT 'max_connections', current_setting('max_connections')::int - all_of_it
                - CASE WHEN rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
                       + coalesce(current_setting('reserved_connections', true)::int, 0) END
         FROM used, role
       UNION ALL
       SELECT 'the CONNECTION LIMIT of the database', datconnlimit - of_database
         FROM used, role, pg_database WHERE datname = current_database() AND datconnlimit >= 0 AND NOT rolsuper
       UNION ALL
       SELECT 'the CONNECTION LIMIT of the role', rolconnlimit - of_role
         FROM used, role WHERE rolconnlimit >= 0 AND NOT rolsuper
     )
     SELECT name AS limit, greatest(0, left_over)::int AS left FROM limits ORDER BY left_over LIMIT 1`,
  );
  return oneRow(answer);
}
