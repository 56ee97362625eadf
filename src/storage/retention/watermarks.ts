import type { Client } from 'pg';
import type { MovedWatermarks, StoredWatermarks } from '../../lifecycle/store.ts';
import { arrayLiteral, nestedArrayLiteral } from '../pg/array-literal.ts';
import { claimsOf } from './facts.ts';

/** A roll of a topic, with publishes behind it, waits for the transaction that locks its row. */
export const topicsTogetherMax = 200;

/**
 * Stores watermarks of topics whose claims are still those of the facts. A reset in between would
 * otherwise be passed by a watermark that does not know of it.
 */
export async function writeWatermarks(client: Client, moved: readonly MovedWatermarks[]): Promise<number[]> {
  const locked = await lockFree(client, moved);
  const claims = await readClaims(client, locked);
  const current = moved.filter(({ facts }) => {
    return locked.includes(facts.topicId) && (claims.get(facts.topicId) ?? '[]') === claimsOf(facts);
  });
  if (current.length === 0) return [];
  await client.query(
    `INSERT INTO millrace.topic_watermarks AS w (topic_id, lane, offsets)
     SELECT topic_id, lane, offsets::bigint[] FROM unnest($1::integer[], $2::integer[], $3::text[]) AS m (topic_id, lane, offsets)
     ON CONFLICT (topic_id, lane) DO UPDATE SET offsets = excluded.offsets`,
    [
      arrayLiteral(current.map(({ facts }) => facts.topicId)),
      arrayLiteral(current.map(({ lane }) => lane)),
      nestedArrayLiteral(current.map(({ offsets }) => offsets)),
    ],
  );
  return current.map(({ facts }) => facts.topicId);
}

/** Locks the topics that nobody locks, in the order of their ids. */
async function lockFree(client: Client, moved: readonly MovedWatermarks[]): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>(
    'SELECT id FROM millrace.topics WHERE id = ANY ($1::integer[]) ORDER BY id FOR UPDATE SKIP LOCKED',
    [arrayLiteral(moved.map(({ facts }) => facts.topicId))],
  );
  return rows.map(({ id }) => id);
}

/** The claims of topics, as `claimsOf` writes them. */
async function readClaims(client: Client, topicIds: readonly number[]): Promise<Map<number, string>> {
  const { rows } = await client.query<{ topic_id: number; claims: [number, string, number][] }>(
    `SELECT topic_id, json_agg(json_build_array(id, state, claim_seq) ORDER BY id) AS claims FROM millrace.subscriptions
      WHERE topic_id = ANY ($1::integer[]) AND state <> 'CANCELLED' GROUP BY topic_id`,
    [arrayLiteral(topicIds)],
  );
  return new Map(rows.map(({ topic_id: topicId, claims }) => [topicId, JSON.stringify(claims)]));
}

export async function readWatermarks(client: Client): Promise<StoredWatermarks[]> {
  const { rows } = await client.query<{ topic_id: number; lane: number; offsets: string[] }>(
    'SELECT topic_id, lane, offsets FROM millrace.topic_watermarks ORDER BY topic_id, lane',
  );
  return rows.map(({ topic_id: topicId, lane, offsets }) => ({ topicId, lane, offsets: offsets.map(Number) }));
}
