import type { Client } from 'pg';
import type { IdempotencyHit } from '../../log/known-keys.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { oneRow } from '../pg/one-row.ts';

/**
 * The ring drops a key when it comes back to the key's table, three turns after it left that table.
 */
export const ringTables = 4;

/** A turn that cannot lock its table in this time fails, and a later call tries again. */
const truncateLockTimeout = '100ms';

/** The table of the ring for new keys. */
export async function currentKeyTable(client: Client): Promise<number> {
  const answer = await client.query<{ current: number }>('SELECT current FROM millrace.idempotency_ring');
  return oneRow(answer).current;
}

/** The keys that were published to the topic within its window, by the database's clock. */
export async function findKeys(
  client: Client,
  topicId: number,
  windowMs: number,
  keys: readonly string[],
  now: Now,
): Promise<Map<string, IdempotencyHit>> {
  const { rows } = await client.query<{ key: Buffer; partition: number; offset: string }>({
    name: 'find_keys',
    text: Array.from(
      { length: ringTables },
      (_, table) => `SELECT key, partition, "offset" FROM millrace.idempotency_${table}
  WHERE topic_id = $1 AND key = ANY ($2) AND at > ${nowOf('$4')} - $3 * interval '1 ms'`,
    ).join(' UNION ALL '),
    values: [topicId, keys.map((key) => Buffer.from(key)), windowMs, now()],
  });
  return new Map(rows.map((row) => [row.key.toString(), { partition: row.partition, offset: Number(row.offset) }]));
}

/**
 * Turns the ring once half of the longest window has passed since the last turn. So a table's
 * youngest key is one and a half windows old when the table is truncated, three turns later.
 *
 * @returns the current table.
 */
export async function turnRing(client: Client, now: Now): Promise<number> {
  const answer = await client.query<{ current: number; due: boolean }>(
    `SELECT current, turned_at < ${nowOf('$1')} - interval '1 ms' *
            (SELECT coalesce(max(idempotency_window_ms), 0) / 2 FROM millrace.topics) AS due
       FROM millrace.idempotency_ring FOR UPDATE`,
    [now()],
  );
  const { current, due } = oneRow(answer);
  if (!due) return current;
  const next = (current + 1) % ringTables;
  // A reader of the old keys, such as a backup, delays TRUNCATE, and look-ups of keys wait behind
  // it.
  await client.query(`SET LOCAL lock_timeout = '${truncateLockTimeout}'`);
  await client.query(`TRUNCATE millrace.idempotency_${next}`);
  await client.query(`UPDATE millrace.idempotency_ring SET current = $1, turned_at = ${nowOf('$2')}`, [next, now()]);
  return next;
}
