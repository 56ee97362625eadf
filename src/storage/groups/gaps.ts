import type { Client } from 'pg';
import type { CursorJump, StoredGap, ToldGap } from '../../delivery/ports/store.ts';
import type { GapReason } from '../../retention/gap.ts';
import { inOrder } from '../commit/cursors.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { nowOf, type Now } from '../pg/now.ts';

/**
 * Stores what cursors are about to jump over, joined with a gap before that is open. The
 * incarnations need no lock, because all resets and deletions take the connection of this call.
 */
export async function saveGaps(client: Client, jumps: readonly CursorJump[], now: Now): Promise<void> {
  const sorted = inOrder(jumps);
  await client.query(
    `INSERT INTO millrace.cursor_gaps AS g (subscription_id, partition, lane, first_offset, last_offset, reason, at)
     SELECT w.subscription_id, w.partition, w.lane, w.first_offset, w.last_offset, w.reason, ${nowOf('$8')}
       FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::integer[], $5::bigint[], $6::bigint[], $7::text[])
              WITH ORDINALITY AS w (subscription_id, partition, lane, resets, first_offset, last_offset, reason, place)
      WHERE w.resets = (SELECT c.resets FROM millrace.cursors AS c
                         WHERE c.subscription_id = w.subscription_id AND c.partition = w.partition AND c.lane = w.lane)
      ORDER BY w.place
     ON CONFLICT (subscription_id, partition, lane) DO UPDATE
        SET first_offset = CASE WHEN NOT g.told OR g.last_offset + 1 >= excluded.first_offset
                                THEN least(g.first_offset, excluded.first_offset) ELSE excluded.first_offset END,
            last_offset = excluded.last_offset, reason = excluded.reason, at = excluded.at, told = false`,
    [
      arrayLiteral(sorted.map(({ key }) => key.subscriptionId)),
      arrayLiteral(sorted.map(({ key }) => key.partition)),
      arrayLiteral(sorted.map(({ key }) => key.lane)),
      arrayLiteral(sorted.map(({ resets }) => resets)),
      arrayLiteral(sorted.map(({ gap }) => gap.first)),
      arrayLiteral(sorted.map(({ gap }) => gap.last)),
      sorted.map(({ gap }) => gap.reason),
      now(),
    ],
  );
}

/** Notes that members have got the gaps. One that has grown since is left as it is. */
export async function tellGaps(client: Client, gaps: readonly ToldGap[]): Promise<void> {
  const sorted = inOrder(gaps);
  await client.query(
    `UPDATE millrace.cursor_gaps AS g SET told = true
       FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::bigint[]) AS w (subscription_id, partition, lane, last_offset)
      WHERE g.subscription_id = w.subscription_id AND g.partition = w.partition AND g.lane = w.lane
        AND g.last_offset = w.last_offset`,
    [
      arrayLiteral(sorted.map(({ key }) => key.subscriptionId)),
      arrayLiteral(sorted.map(({ key }) => key.partition)),
      arrayLiteral(sorted.map(({ key }) => key.lane)),
      arrayLiteral(sorted.map(({ last }) => last)),
    ],
  );
}

export async function readGaps(client: Client, subscriptionIds: readonly number[]): Promise<StoredGap[]> {
  const { rows } = await client.query<
    [
      subscriptionId: number,
      partition: number,
      lane: number,
      first: number,
      last: number,
      reason: GapReason,
      isTold: boolean,
    ]
  >({
    rowMode: 'array',
    name: 'load_gaps',
    text: `SELECT subscription_id, partition, lane, first_offset::float8, last_offset::float8, reason, told
             FROM millrace.cursor_gaps WHERE subscription_id = ANY ($1::integer[])`,
    values: [arrayLiteral(subscriptionIds)],
  });
  return rows.map(([subscriptionId, partition, lane, first, last, reason, isTold]) => ({
    key: { subscriptionId, partition, lane },
    gap: { first, last, reason },
    isTold,
  }));
}
