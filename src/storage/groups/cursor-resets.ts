import type { Client } from 'pg';
import { cursorName, type CursorReset } from '../../delivery/ports/store.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { claimsChanged, lockTopicsOf, logStart } from './claims.ts';

type StoredStart = [subscriptionId: number, partition: number, lane: number, offset: number];

/**
 * Resets cursors, each to the incarnation of its reset and never below the start of its log. The
 * claim begins again, so what a drop had taken is not owed any more. A cursor that has the
 * incarnation already is left alone, so that a retry changes nothing.
 * @returns the stored offsets, in the order of `resets`.
 */
export async function resetCursors(client: Client, resets: readonly CursorReset[]): Promise<number[]> {
  const ids = arrayLiteral([...new Set(resets.map(({ key }) => key.subscriptionId))]);
  await lockTopicsOf(client, 'id = ANY ($1::integer[])', [ids]);
  await client.query(
    'SELECT 1 FROM millrace.subscriptions WHERE id = ANY ($1::integer[]) ORDER BY id FOR NO KEY UPDATE',
    [ids],
  );
  const keys = keyColumns(resets);
  const { rows: changed } = await client.query<[subscriptionId: number]>({
    rowMode: 'array',
    text: resetText,
    values: [...keys, arrayLiteral(resets.map((one) => one.resets)), arrayLiteral(resets.map(({ offset }) => offset))],
  });
  await client.query(
    `DELETE FROM millrace.cursor_gaps AS g USING unnest($1::integer[], $2::integer[], $3::integer[]) AS w (subscription_id, partition, lane)
      WHERE g.subscription_id = w.subscription_id AND g.partition = w.partition AND g.lane = w.lane`,
    keys,
  );
  await claimsChanged(client, [...new Set(changed.map(([id]) => id))]);
  return storedStarts(client, resets, keys);
}

/**
 * A sub-select finds each row by its key, as in a fold: a join, planned while the table was empty,
 * scans it for each row. No row moves between look-up and update, because folds and resets share a
 * connection. A claim that has ended stays as it is.
 */
const resetText = `
  WITH w AS MATERIALIZED (
    SELECT v.*, greatest(v.committed_offset, coalesce(${logStart('u.topic_id', 'v.partition', 'v.lane')}, 0)) AS start,
           (SELECT f.ctid FROM millrace.cursors AS f
             WHERE f.subscription_id = v.subscription_id AND f.partition = v.partition AND f.lane = v.lane) AS place
      FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::integer[], $5::bigint[])
           AS v (subscription_id, partition, lane, resets, committed_offset),
           LATERAL (SELECT s.topic_id FROM millrace.subscriptions AS s
                     WHERE s.id = v.subscription_id AND s.state <> 'CANCELLED' OFFSET 0) AS u
  )
  UPDATE millrace.cursors AS c
     SET resets = w.resets, committed_offset = w.start, start_offset = w.start, acked = '{}', attempts = '{}',
         metadata = NULL, metadata_seq = NULL
    FROM w WHERE c.ctid = w.place AND c.resets < w.resets
  RETURNING c.subscription_id`;

function keyColumns(resets: readonly CursorReset[]): string[] {
  return [
    arrayLiteral(resets.map(({ key }) => key.subscriptionId)),
    arrayLiteral(resets.map(({ key }) => key.partition)),
    arrayLiteral(resets.map(({ key }) => key.lane)),
  ];
}

async function storedStarts(
  client: Client,
  resets: readonly CursorReset[],
  keys: readonly string[],
): Promise<number[]> {
  const { rows } = await client.query<StoredStart>({
    rowMode: 'array',
    text: `SELECT found.* FROM unnest($1::integer[], $2::integer[], $3::integer[]) AS w (subscription_id, partition, lane),
                  LATERAL (SELECT c.subscription_id, c.partition, c.lane, coalesce(c.start_offset, c.committed_offset)::float8
                             FROM millrace.cursors AS c
                            WHERE c.subscription_id = w.subscription_id AND c.partition = w.partition AND c.lane = w.lane
                           OFFSET 0) AS found`,
    values: [...keys],
  });
  const offsets = new Map(
    rows.map(([subscriptionId, partition, lane, offset]) => [cursorName({ subscriptionId, partition, lane }), offset]),
  );
  // A cursor is gone only with its topic or group, for which the caller looks.
  return resets.map(({ key, offset }) => offsets.get(cursorName(key)) ?? offset);
}
