import type { ClientBase } from 'pg';

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
