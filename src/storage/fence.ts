import type { Client, ClientBase } from 'pg';
import { Fault } from '../errors/fault.ts';

/** Which row of `broker_fence` a writer's transactions are fenced by. */
export interface Fence {
  readonly broker: string;
  readonly slot: number;
  /** The epoch in which this broker owns the database. */
  readonly epoch: () => number;
}

/**
 * Makes `broker` the only one whose writes are let through, in `epoch`. It waits for every write transaction of others that is in
 * flight, because each holds its row; afterwards none of theirs finds its row. To be called in a transaction.
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

/** The epoch in which each session has signed its row. */
const signed = new WeakMap<Client, number>();

/**
 * Writes into the fence row which session writes under it, before the first fenced statement of a session in an epoch: a successor ends the sessions that
 * it finds there when it has waited for them long enough. A statement of its own, so that the successor can read it while they write.
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
 * Condition on `a`, a session: it keeps session $1 waiting, and writes under the fence. Who holds the lease's row too is another broker that
 * takes over, and no writer.
 */
const blocksByFence = `a.pid = ANY (pg_blocking_pids($1))
              AND to_regclass('millrace.broker_fence') IN (SELECT relation FROM pg_locks AS l WHERE l.pid = a.pid AND granted)
              AND NOT to_regclass('millrace.broker_lease') IN (
                SELECT relation FROM pg_locks AS l WHERE l.pid = a.pid AND granted AND relation IS NOT NULL)`;

/**
 * Ends what keeps the takeover of session `pid` waiting: the sessions that have signed a fence row or the lease, and those that it waits for because they hold
 * one and came to a stop before they could sign.
 */
export async function endPredecessor(client: Client, pid: number): Promise<void> {
  await client.query(
    `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a
      WHERE a.pid NOT IN ($1, pg_backend_pid())
        AND (EXISTS (SELECT FROM millrace.broker_fence AS f WHERE f.pid = a.pid AND f.backend_start = a.backend_start)
          OR EXISTS (SELECT FROM millrace.broker_lease AS b WHERE b.pid = a.pid AND b.backend_start = a.backend_start)
          OR (${blocksByFence}))`,
    [pid],
  );
}

/** The same for a migration, before which nobody may have signed anything. @returns how many sessions it has told to end. */
export async function endBlockingWriters(client: Client, pid: number): Promise<number> {
  const { rowCount } = await client.query(
    `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a
      WHERE ${blocksByFence}`,
    [pid],
  );
  return rowCount ?? 0;
}
