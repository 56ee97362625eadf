import type { Client } from 'pg';
import type { PlannedDrop, StoredDrop } from '../../lifecycle/store.ts';
import type { StoredStart } from '../../log/store.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { limits } from '../../limits/limits.ts';
import { nowOf, type Now } from '../pg/now.ts';

/**
 * The tables that have to go, oldest first. That of a topic waits for those of its segments: it is
 * their parent.
 */
export async function readPending(client: Client): Promise<PlannedDrop[]> {
  const { rows } = await client.query<PlannedDrop>(
    `SELECT d.topic_id AS "topicId", d.topic_name AS "topicName", d.segment FROM millrace.segment_drops AS d
      WHERE d.done_at IS NULL AND (d.segment > 0 OR NOT EXISTS (
              SELECT FROM millrace.segment_drops AS o WHERE o.topic_id = d.topic_id AND o.segment > 0 AND o.done_at IS NULL))
      ORDER BY d.planned_at, d.topic_id, d.segment`,
  );
  return rows;
}

export async function writeDone(client: Client, { topicId, segment }: PlannedDrop, now: Now): Promise<void> {
  await client.query(
    `UPDATE millrace.segment_drops SET done_at = ${nowOf('$3')} WHERE topic_id = $1 AND segment = $2 AND done_at IS NULL`,
    [topicId, segment, now()],
  );
}

export async function readFirstOffsets(
  client: Client,
  topicId: number,
  segments: readonly number[],
  logsMax: number,
): Promise<Map<number, StoredStart[]>> {
  const { rows } = await client.query<[segment: number, partition: number, offset: number]>({
    rowMode: 'array',
    text: `SELECT s.segment, p.partition, coalesce(b.base_offset, 0)::float8
             FROM unnest($2::integer[]) AS s (segment)
            CROSS JOIN (SELECT partition FROM millrace.partitions WHERE topic_id = $1 ORDER BY partition LIMIT $3::bigint) AS p
             LEFT JOIN millrace.segment_bases AS b
               ON b.topic_id = $1 AND b.segment = s.segment AND b.partition = p.partition AND b.lane = 0
            ORDER BY s.segment, p.partition`,
    values: [topicId, arrayLiteral(segments), logsMax === Infinity ? null : logsMax],
  });
  const starts = new Map<number, StoredStart[]>(segments.map((segment) => [segment, []]));
  for (const [segment, partition, startOffset] of rows) {
    starts.get(segment)?.push({ partition, lane: 0, startOffset });
  }
  return starts;
}

interface AuditRow {
  readonly segment: number;
  readonly reason: StoredDrop['reason'];
  readonly bytes: number;
  readonly planned_ms: number;
  readonly done_ms: number | null;
  readonly ranges: readonly [partition: number, lane: number, first: number, last: number][];
}

/** The drops of topics of a name, the newest first, without the topics' own tables. */
export async function readAudit(client: Client, topicName: string, limit: number): Promise<StoredDrop[]> {
  const { rows } = await client.query<AuditRow>(
    `SELECT segment, reason, bytes::float8 AS bytes, extract(epoch FROM planned_at)::float8 * 1000 AS planned_ms,
            extract(epoch FROM done_at)::float8 * 1000 AS done_ms,
            coalesce((SELECT json_agg(json_build_array(p, l, f, e)) FROM unnest(partitions, lanes, first_offsets, last_offsets)
                        AS ranges (p, l, f, e)), '[]') AS ranges
       FROM millrace.segment_drops WHERE topic_name = $1 AND segment > 0
      ORDER BY planned_at DESC, topic_id DESC, segment DESC LIMIT $2`,
    [topicName, limit],
  );
  return rows.map(({ planned_ms: plannedAtMs, done_ms: doneAtMs, ranges, ...row }) => ({
    ...row,
    plannedAtMs,
    doneAtMs,
    ranges: ranges.map(([partition, lane, first, last]) => ({ partition, lane, first, last })),
  }));
}

/** Removes gaps that no member needs to be told of, and rows of the audit that are too old. */
export async function tidy(client: Client, now: Now): Promise<void> {
  await client.query(
    // Rows that a jump writes now are left for the next time.
    `DELETE FROM millrace.cursor_gaps WHERE ctid = ANY (ARRAY(
       SELECT g.ctid FROM millrace.cursor_gaps AS g
         JOIN millrace.cursors AS c ON c.subscription_id = g.subscription_id AND c.partition = g.partition AND c.lane = g.lane
         JOIN millrace.subscriptions AS s ON s.id = g.subscription_id
        WHERE g.told AND c.committed_offset > g.last_offset + 1 OR s.state = 'CANCELLED'
          FOR UPDATE OF g SKIP LOCKED))`,
  );
  const isOld = (column: string): string => `${nowOf('$1')} - ${column} > $2 * interval '1 ms'`;
  await client.query(`DELETE FROM millrace.segment_drops WHERE done_at IS NOT NULL AND ${isOld('done_at')}`, [
    now(),
    limits.auditKeptMs,
  ]);
  await client.query(`DELETE FROM millrace.subscription_audit WHERE ${isOld('at')}`, [now(), limits.auditKeptMs]);
}
