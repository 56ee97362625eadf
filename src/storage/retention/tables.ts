import type { Client } from 'pg';
import type { BlockingSession, PlannedDrop, TableFacts } from '../../lifecycle/store.ts';
import type { DetachingSession } from '../../retention/drop-step.ts';
import { present } from '../../errors/present.ts';
import { sqlState, undefinedTableState } from '../pg/faults.ts';
import { leafTable, topicTable } from '../schema/leaf.ts';

/**
 * The tables of dropped segments. Nothing is remembered about them: each step begins with a look at
 * the catalog and the locks.
 */

interface NamedTable {
  readonly table: string;
  readonly parent: string;
}

/** Segment 0 is the table of the topic itself. */
export function namesOf({ topicId, segment }: PlannedDrop): NamedTable {
  if (segment === 0) return { table: topicTable(topicId), parent: 'millrace.record_batches' };
  return { table: leafTable(topicId, segment), parent: topicTable(topicId) };
}

/** The statement of a detach. A running one is found again by this text. */
export function detachStatement({ table, parent }: NamedTable): string {
  return `ALTER TABLE ${parent} DETACH PARTITION ${table} CONCURRENTLY`;
}

interface Look {
  readonly found: boolean;
  readonly pending: boolean | null;
  readonly detaching_pid: number | null;
  readonly waits_for: DetachingSession['waitsFor'];
  readonly waited_ms: number;
  readonly table_lockers: number[];
  readonly parent_lockers: number[];
  readonly blockers: number[];
}

/**
 * Looks at a table once. An autovacuum worker that locks it does not count, because it ends for
 * everybody else. The lock of the detaching session itself does not count either.
 */
const lookQuery = `
WITH named AS (
  SELECT to_regclass($1) AS leaf, to_regclass($2) AS parent
), detaching AS (
  SELECT a.pid, a.query_start FROM pg_stat_activity AS a
   WHERE a.datname = current_database() AND a.state = 'active' AND a.query = $3 LIMIT 1
), lockers AS (
  SELECT DISTINCT l.pid, l.relation FROM pg_locks AS l JOIN named ON l.relation IN (named.leaf, named.parent)
    JOIN pg_stat_activity AS a ON a.pid = l.pid
   WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND l.pid <> pg_backend_pid() AND l.pid IS DISTINCT FROM (SELECT pid FROM detaching)
     AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
), waiting AS (
  SELECT CASE WHEN l.locktype = 'relation' AND l.relation = named.leaf THEN 'TABLE' ELSE 'PARENT' END AS waits_for,
         CASE WHEN l.locktype = 'relation' AND l.relation = named.leaf THEN l.waitstart ELSE detaching.query_start END AS since
    FROM pg_locks AS l, named, detaching WHERE l.pid = detaching.pid AND NOT l.granted LIMIT 1
)
SELECT named.leaf IS NOT NULL AS found, i.inhdetachpending AS pending, (SELECT pid FROM detaching) AS detaching_pid,
       (SELECT waits_for FROM waiting) AS waits_for,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - since)::float8 * 1000 FROM waiting), 0) AS waited_ms,
       ARRAY(SELECT pid FROM lockers WHERE relation = named.leaf) AS table_lockers,
       ARRAY(SELECT pid FROM lockers WHERE relation = named.parent) AS parent_lockers,
       coalesce((SELECT pg_blocking_pids(pid) FROM detaching), '{}') AS blockers
  FROM named LEFT JOIN pg_inherits AS i ON i.inhrelid = named.leaf`;

export async function lookAt(client: Client, drop: PlannedDrop): Promise<TableFacts> {
  const names = namesOf(drop);
  const { rows } = await client.query<Look>(lookQuery, [names.table, names.parent, detachStatement(names)]);
  const look = present(rows[0], 'a look has one row');
  const { detaching_pid: detachingPid, table_lockers: tableLockers, parent_lockers: parentLockers } = look;
  const blocking = detachingPid === null ? [...tableLockers, ...parentLockers] : look.blockers;
  return {
    exists: look.found,
    attached: attachedOf(look),
    tableLockers: tableLockers.length,
    parentLockers: parentLockers.length,
    detaching: detachingPid === null ? null : { waitsFor: look.waits_for, waitedMs: look.waited_ms },
    detachingPid,
    blockers: await sessionsOf(client, [...new Set(blocking)]),
  };
}

function attachedOf({ pending }: Look): TableFacts['attached'] {
  if (pending === null) return 'NO';
  return pending ? 'PENDING' : 'YES';
}

/** The sessions of these processes. A role without pg_monitor sees little of those of others. */
async function sessionsOf(client: Client, pids: readonly number[]): Promise<BlockingSession[]> {
  if (pids.length === 0) return [];
  const { rows } = await client.query<{
    pid: number;
    age_ms: number | null;
    name: string | null;
    state: string | null;
  }>(
    `SELECT pid, application_name AS name, state,
            extract(epoch FROM clock_timestamp() - xact_start)::float8 * 1000 AS age_ms
       FROM pg_stat_activity WHERE pid = ANY ($1::integer[]) ORDER BY xact_start NULLS LAST, pid`,
    [pids],
  );
  return rows.map(({ pid, age_ms: transactionAgeMs, name, state }) => {
    return { pid, transactionAgeMs, applicationName: name ?? '', state };
  });
}

/**
 * Another session has done the step, waits for the same, or a limit has ended it: undefined table
 * (also "is not a partition"), a detach that is pending, a lock that is not free, a cancelled
 * statement, a deadlock.
 */
const lookAgain = new Set([undefinedTableState, '55000', '55P03', '57014', '40P01']);

/** Runs a step. Does nothing about an error after which the next look tells what to do. */
export async function runStep(step: () => Promise<unknown>): Promise<void> {
  try {
    await step();
  } catch (error) {
    if (!lookAgain.has(sqlState(error) ?? '')) throw error;
  }
}

/** Sets limits for the locks of a step, and for the whole step if it may wait for snapshots. */
export async function withLimits(
  client: Client,
  { lockMs, statementMs = 0 }: { readonly lockMs: number; readonly statementMs?: number },
  step: () => Promise<unknown>,
): Promise<void> {
  await client.query(`SET lock_timeout = ${lockMs}`);
  try {
    if (statementMs > 0) await client.query(`SET statement_timeout = ${statementMs}`);
    await runStep(step);
  } finally {
    // RESET would restore the defaults of the role. The session has other work after an error too.
    await client.query('SET lock_timeout = 0').catch(() => undefined);
    if (statementMs > 0) await client.query('SET statement_timeout = 0').catch(() => undefined);
  }
}
