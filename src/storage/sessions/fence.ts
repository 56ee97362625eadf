import type { Client, ClientBase } from 'pg';
import { Fault } from '../../errors/fault.ts';

/** The row of `broker_fence` that fences a writer's transactions. */
export interface Fence {
  readonly broker: string;
  readonly slot: number;
  /** The epoch in which this broker owns the database. */
  readonly epoch: () => number;
}

/**
 * Fences all other brokers: from `epoch` on, only writes of `broker` succeed. The DELETE waits for
 * write transactions in flight, because each locks its row. Later ones find no row. Call it in a
 * transaction.
 */
export async function takeFence(
  client: ClientBase,
  broker: string,
  epoch: number,
  slots: readonly number[],
): Promise<void> {
  await client.query('DELETE FROM millrace.broker_fence');
  await client.query(
    'INSERT INTO millrace.broker_fence (broker, slot, epoch) SELECT $1, unnest($2::int[]), $3::bigint',
    [broker, slots, epoch],
  );
}

/** The epoch in which each session last signed its fence row. */
const signed = new WeakMap<Client, number>();

/**
 * Writes the session into its fence row before the session's first fenced statement of an epoch. A
 * successor ends the sessions named there once its patience is over. It is a separate statement, so
 * that the successor can read the row while a write is in flight.
 *
 * @throws Fault
 */
export async function signFence(client: Client, { broker, slot, epoch }: Fence): Promise<void> {
  const current = epoch();
  if (signed.get(client) === current) return;
  const { rowCount } = await client.query(
    `UPDATE millrace.broker_fence SET pid = a.pid, backend_start = a.backend_start
       FROM pg_stat_get_activity(pg_backend_pid()) AS a WHERE broker = $1 AND slot = $2 AND epoch = $3`,
    [broker, slot, current],
  );
  if (rowCount === 0) throw new Fault('FENCED', `broker ${broker} is fenced in epoch ${current}`);
  signed.set(client, current);
}

/**
 * Whether a fence row or the lease names session `a`. The columns are read through JSON, because a
 * schema before version 0006 does not have them.
 */
const isSessionOf = (row: string): string =>
  `(to_jsonb(${row}) ->> 'pid')::integer = a.pid AND (to_jsonb(${row}) ->> 'backend_start')::timestamptz = a.backend_start`;

/**
 * Ends the sessions that block the takeover or the migration of session `pid`: those that signed a
 * fence row or the lease, and writers that lock a fence row and stalled before they signed. A
 * session that also locks the lease's table is another broker at its takeover, and is left alone.
 */
export async function endPredecessor(client: Client, pid: number): Promise<void> {
  await client.query(
    `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a
      WHERE a.pid NOT IN ($1, pg_backend_pid())
        AND (EXISTS (SELECT FROM millrace.broker_fence AS f WHERE ${isSessionOf('f')})
          OR EXISTS (SELECT FROM millrace.broker_lease AS b WHERE ${isSessionOf('b')})
          OR (a.pid = ANY (pg_blocking_pids($1))
              AND 'millrace.broker_fence'::regclass IN (SELECT relation FROM pg_locks AS l WHERE l.pid = a.pid AND granted)
              AND NOT 'millrace.broker_lease'::regclass IN (
                SELECT relation FROM pg_locks AS l WHERE l.pid = a.pid AND granted AND relation IS NOT NULL)))`,
    [pid],
  );
}
