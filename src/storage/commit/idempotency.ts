import type { Client } from 'pg';
import type { IdempotencyHit } from '../../log/known-keys.ts';
import { nowOf, type Now } from '../pg/now.ts';

/** Tables of the ring. A key is dropped when the ring comes round to its table again, three turns after the table was left. */
export const ringTables = 4;

/** A turn that cannot have its table by then is left to the next try. */
const truncateLockTimeout = '100ms';

/** Which table of the ring new keys go to. */
export async function currentKeyTable(client: Client): Promise<number> {
  const { rows } = await client.query<{ current: number }>('SELECT current FROM millrace.idempotency_ring');
  return rows[0]!.current;
}

/** Those of the keys that the topic knows from within its window, by the database's clock. */
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
 * Turns the ring if its current table is old enough: after half of the longest window, so that three turns later,
 * when the table is truncated, its youngest key is one and a half windows old. @returns the current table.
 */
export async function turnRing(client: Client, now: Now): Promise<number> {
  const { rows } = await client.query<{ current: number; due: boolean }>(
    `SELECT current, turned_at < ${nowOf('$1')} - interval '1 ms' *
            (SELECT coalesce(max(idempotency_window_ms), 0) / 2 FROM millrace.topics) AS due
       FROM millrace.idempotency_ring FOR UPDATE`,
    [now()],
  );
  const { current, due } = rows[0]!;
  if (!due) return current;
  const next = (current + 1) % ringTables;
  // Somebody who reads the old keys, a backup say, holds the truncation up, and whoever looks a key up waits behind it.
  await client.query(`SET LOCAL lock_timeout = '${truncateLockTimeout}'`);
  await client.query(`TRUNCATE millrace.idempotency_${next}`);
  await client.query(`UPDATE millrace.idempotency_ring SET current = $1, turned_at = ${nowOf('$2')}`, [next, now()]);
  return next;
}
