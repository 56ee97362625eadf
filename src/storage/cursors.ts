import type { Client } from 'pg';
import { mergeDelta, type CursorDelta, type CursorSnapshot } from '../cursor/cursor.ts';
import type { StoredCursor } from '../delivery/store.ts';
import { arrayLiteral, nestedArrayLiteral, parseArrayLiteral } from './array-literal.ts';

/** The table of cursors, as of the last fold. */

type Row = [number, number, number, string, string, string];

/** The cursors of active subscriptions. Arrays as text: `pg` parses that form of them five times as slow as a split. */
export async function readCursors(client: Client): Promise<StoredCursor[]> {
  const { rows } = await client.query<Row>({
    rowMode: 'array',
    text: `SELECT c.subscription_id, c.partition, c.lane, c.committed_offset, c.acked::text, c.attempts::text
             FROM millrace.cursors AS c JOIN millrace.subscriptions AS s ON s.id = c.subscription_id
            WHERE s.state = 'ACTIVE'`,
  });
  return rows.map(([subscriptionId, partition, lane, committedOffset, acked, attempts]) => ({
    key: { subscriptionId, partition, lane },
    cursor: {
      committedOffset: Number(committedOffset),
      acked: parseArrayLiteral(acked),
      attempts: parseArrayLiteral(attempts),
    },
  }));
}

/** The cursor with everything that the ack log says about it, in whatever order and however often it says so. */
export function mergeDeltas(cursor: CursorSnapshot, deltas: readonly CursorDelta[]): CursorSnapshot {
  // As one delta: each merge copies the cursor.
  return mergeDelta(cursor, {
    committedOffset: deltas.reduce((highest, delta) => Math.max(highest, delta.committedOffset), 0),
    acked: deltas.flatMap(({ acked }) => acked),
    attempts: deltas.flatMap(({ attempts }) => attempts),
  });
}

/**
 * Writes the state of cursors. A cursor that is gone (its topic was deleted) is passed over; one that stands as it is to be
 * is not written again. Only the owner's folds update cursors, one at a time, so there is nobody to wait for but a delete.
 */
export async function writeCursors(client: Client, stored: readonly StoredCursor[]): Promise<void> {
  if (stored.length === 0) return;
  const sorted = [...stored].sort(
    ({ key: a }, { key: b }) => a.subscriptionId - b.subscriptionId || a.partition - b.partition || a.lane - b.lane,
  );
  await client.query({
    name: 'write_cursors',
    text: `UPDATE millrace.cursors AS c
              SET committed_offset = w.committed_offset, acked = w.acked::bigint[], attempts = w.attempts::bigint[]
             FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::bigint[], $5::text[], $6::text[])
                  AS w (subscription_id, partition, lane, committed_offset, acked, attempts)
            WHERE c.subscription_id = w.subscription_id AND c.partition = w.partition AND c.lane = w.lane`,
    values: [
      arrayLiteral(sorted.map(({ key }) => key.subscriptionId)),
      arrayLiteral(sorted.map(({ key }) => key.partition)),
      arrayLiteral(sorted.map(({ key }) => key.lane)),
      arrayLiteral(sorted.map(({ cursor }) => cursor.committedOffset)),
      nestedArrayLiteral(sorted.map(({ cursor }) => cursor.acked)),
      nestedArrayLiteral(sorted.map(({ cursor }) => cursor.attempts)),
    ],
  });
}
