import type { ClientBase } from 'pg';
import { nowOf, type Now } from '../pg/now.ts';

/** How many ended epochs are kept. */
const epochsKept = 1_000;

/**
 * Keeps until when the owner of the lease lived, which a release has noted already. Call it in the
 * transaction of the takeover, before it. Members that were heard before the oldest epoch that is
 * kept count from the end of that one.
 */
export async function endEpoch(client: ClientBase): Promise<void> {
  await client.query(
    `INSERT INTO millrace.broker_epochs (epoch, renewed_at)
     SELECT epoch, renewed_at FROM millrace.broker_lease WHERE renewed_at > '-infinity'
     ON CONFLICT (epoch) DO UPDATE SET renewed_at = excluded.renewed_at`,
  );
  await client.query(
    'DELETE FROM millrace.broker_epochs WHERE epoch <= (SELECT epoch FROM millrace.broker_lease) - $1::bigint',
    [epochsKept],
  );
}

/** Releases the lease, if the broker has it in that epoch, and keeps until when it lived. */
export async function giveUp(client: ClientBase, broker: string, epoch: number, now: Now): Promise<void> {
  await client.query(
    `WITH released AS (
       UPDATE millrace.broker_lease SET renewed_at = '-infinity' WHERE broker = $1 AND epoch = $2 RETURNING epoch
     )
     INSERT INTO millrace.broker_epochs (epoch, renewed_at) SELECT epoch, ${nowOf('$3')} FROM released
     ON CONFLICT (epoch) DO UPDATE SET renewed_at = excluded.renewed_at`,
    [broker, epoch, now()],
  );
}
