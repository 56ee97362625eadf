import { and, asc, drizzle, eq, getTableColumns, inArray, isNull, nowSql } from '../pg/drizzle.ts';
import type { Client } from 'pg';
import type { NewTopic, TopicRow, TopicStore } from '../../log/store.ts';
import type { Connection } from '../sessions/connection.ts';
import { epochMs } from '../pg/epoch.ts';
import { sqlState } from '../pg/faults.ts';
import type { Now } from '../pg/now.ts';
import { ringTables } from '../commit/idempotency.ts';
import { leafTable, topicTable } from '../schema/leaf.ts';
import { partitions, segmentDrops, topics } from '../schema/log-schema.ts';
import { nameKey } from '../schema/namespaces.ts';
import { createFirstSegment, createTopicTable, lockTopicLogs } from './segments.ts';
import type { Writer } from '../sessions/writer.ts';
import { oneRow } from '../pg/one-row.ts';

/** A drop waits this long for readers of its table, and then leaves the table to the next call. */
const dropLockTimeout = '2s';
const lockNotAvailable = '55P03';
/** PostgreSQL allows one interrupted detach for each parent table, which must be finished first. */
const otherDetachPending = '55000';

interface TopicStoreOptions {
  readonly writer: Writer;
  /** Creates tables, and may wait for sessions that lock their parents. */
  readonly tables: Writer;
  /** Reads topics, and detaches tables, which PostgreSQL forbids in a transaction. */
  readonly admin: Connection;
  /** Called after the topic's segments have changed. */
  readonly onChanged: (topicId: number) => void;
  readonly now: Now;
}

/** The topics on PostgreSQL. */
export class PostgresTopicStore implements TopicStore {
  readonly #o: TopicStoreOptions;

  constructor(options: TopicStoreOptions) {
    this.#o = options;
  }

  loadTopics(): Promise<TopicRow[]> {
    return this.#o.admin.run((client) => load(client));
  }

  createTopic(topic: NewTopic): Promise<TopicRow | null> {
    return this.#o.tables.transaction(async (client) => {
      const { name, idempotencyWindowMs, description } = topic;
      const { now } = this.#o;
      const [made] = await drizzle(client)
        .insert(topics)
        .values({
          ...nameKey(name),
          semantics: 'PUB_SUB',
          idempotencyWindowMs,
          description,
          segment: 1,
          createdAt: nowSql(now),
        })
        .onConflictDoNothing({ target: [topics.namespaceId, topics.name] })
        .returning({ id: topics.id });
      if (made === undefined) return null;
      await client.query(
        'INSERT INTO millrace.partitions (topic_id, partition) SELECT $1, generate_series(0, $2::integer - 1)',
        [made.id, topic.partitions],
      );
      await createTopicTable(client, made.id);
      await createFirstSegment(client, made.id, now);
      return (await load(client, made.id))[0] ?? null;
    });
  }

  updateTopic(
    topicId: number,
    change: { readonly idempotencyWindowMs?: number; readonly description?: string },
  ): Promise<TopicRow | null> {
    return this.#o.writer.transaction(async (client) => {
      if (Object.keys(change).length > 0) {
        await drizzle(client).update(topics).set(change).where(eq(topics.id, topicId));
      }
      return (await load(client, topicId))[0] ?? null;
    });
  }

  addPartitions(topicId: number, count: number): Promise<TopicRow | null> {
    return this.#o.writer.transaction(async (client) => {
      // The transaction of a new subscription locks this row for KEY SHARE. If it commits first,
      // this statement adds the cursors. Otherwise it sees the new partitions, and adds them
      // itself. Appends do not lock the row, so they go on. The locks of the subscriptions wait for
      // the end of a group, and leave its subscriptions out.
      await client.query('SELECT 1 FROM millrace.topics WHERE id = $1 FOR UPDATE', [topicId]);
      await client.query(
        `WITH subscribed AS (
           SELECT id, topic_id FROM millrace.subscriptions WHERE topic_id = $1 AND state = 'ACTIVE' ORDER BY id FOR KEY SHARE
         ), added AS (
           INSERT INTO millrace.partitions (topic_id, partition)
           SELECT t.id, generate_series((SELECT count(*)::integer FROM millrace.partitions WHERE topic_id = t.id), $2::integer - 1)
             FROM millrace.topics AS t WHERE t.id = $1
           RETURNING topic_id, partition
         )
         INSERT INTO millrace.cursors (subscription_id, partition, lane, committed_offset)
         SELECT s.id, added.partition, 0, 0 FROM added JOIN subscribed AS s USING (topic_id)`,
        [topicId, count],
      );
      return (await load(client, topicId))[0] ?? null;
    });
  }

  async deleteTopic(topicId: number): Promise<void> {
    await this.#o.writer.transaction(async (client) => {
      // The locks wait for appends in flight. Later appends find no partitions and fail.
      await lockTopicLogs(client, topicId, 'UPDATE');
      await client.query(
        `INSERT INTO millrace.segment_drops (topic_id, segment, topic_name, reason)
         SELECT t.id, s.segment, t.name, 'TOPIC_DELETED' FROM millrace.topics AS t JOIN millrace.segments AS s ON s.topic_id = t.id
          WHERE t.id = $1`,
        [topicId],
      );
      for (let table = 0; table < ringTables; table++) {
        await client.query(`DELETE FROM millrace.idempotency_${table} WHERE topic_id = $1`, [topicId]);
      }
      await drizzle(client).delete(topics).where(eq(topics.id, topicId));
    });
    this.#o.onChanged(topicId);
  }

  dropSegments(): Promise<void> {
    return this.#o.admin.run(async (client) => {
      const database = drizzle(client);
      const planned = await database
        .select({ topicId: segmentDrops.topicId, segment: segmentDrops.segment })
        .from(segmentDrops)
        .where(isNull(segmentDrops.doneAt))
        .orderBy(asc(segmentDrops.topicId), asc(segmentDrops.segment));
      await client.query(`SET lock_timeout = '${dropLockTimeout}'`);
      try {
        for (const [topicId, drops] of Map.groupBy(planned, (drop) => drop.topicId)) {
          const gone = await dropSegmentsOf(client, topicId, drops);
          if (gone.length === 0) continue;
          await database
            .update(segmentDrops)
            .set({ doneAt: nowSql(this.#o.now) })
            .where(and(eq(segmentDrops.topicId, topicId), inArray(segmentDrops.segment, gone)));
        }
      } finally {
        // RESET would restore the default of the role. The session has other work after an error
        // too.
        await client.query('SET lock_timeout = 0').catch(() => undefined);
      }
    });
  }
}

async function load(client: Client, topicId?: number): Promise<TopicRow[]> {
  const database = drizzle(client);
  const { createdAt, namespaceId: _, ...plain } = getTableColumns(topics);
  const rows = await database
    .select({ ...plain, createdAtMs: epochMs(createdAt) })
    .from(topics)
    .where(topicId === undefined ? undefined : eq(topics.id, topicId));
  const parts = await database
    .select({ id: partitions.id, topicId: partitions.topicId, partition: partitions.partition })
    .from(partitions)
    .where(topicId === undefined ? undefined : eq(partitions.topicId, topicId))
    .orderBy(asc(partitions.topicId), asc(partitions.partition));
  const ofTopic = new Map<number, { id: number; partition: number }[]>(rows.map(({ id }) => [id, []]));
  for (const { id, topicId: owner, partition } of parts) ofTopic.get(owner)?.push({ id, partition });
  return rows.map((row) => ({ ...row, partitions: ofTopic.get(row.id) ?? [] }));
}

/** Drops tables of segments. @returns the segments whose tables are gone. */
async function dropSegmentsOf(
  client: Client,
  topicId: number,
  drops: readonly { segment: number }[],
): Promise<number[]> {
  const gone: number[] = [];
  for (const { segment } of drops) {
    if (await dropTable(client, leafTable(topicId, segment), topicTable(topicId))) gone.push(segment);
  }
  // The last segment stays planned until the topic's table is gone too. Otherwise no later call
  // would drop that table, and a half-detached one blocks the detach of every other topic's table.
  if (gone.length === drops.length && !(await dropEmptyTopic(client, topicId))) gone.pop();
  return gone;
}

/**
 * Detaches a table concurrently, so that readers of its parent go on, and drops it. It finishes a
 * detach that was interrupted.
 *
 * @returns whether the table is gone.
 */
async function dropTable(client: Client, table: string, parent: string): Promise<boolean> {
  const { rows } = await client.query<{ pending: boolean | null }>(
    `SELECT i.inhdetachpending AS pending FROM pg_class AS c LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
      WHERE c.oid = to_regclass($1)`,
    [table],
  );
  const found = rows[0];
  if (found === undefined) return true;
  try {
    if (found.pending !== null) {
      await client.query(
        `ALTER TABLE ${parent} DETACH PARTITION ${table} ${found.pending ? 'FINALIZE' : 'CONCURRENTLY'}`,
      );
    }
    await client.query(`DROP TABLE ${table}`);
    return true;
  } catch (error) {
    const state = sqlState(error);
    if (state === lockNotAvailable || state === otherDetachPending) return false;
    throw error;
  }
}

/** Drops the topic's table if it has no segments left. @returns false if that failed. */
async function dropEmptyTopic(client: Client, topicId: number): Promise<boolean> {
  const answer = await client.query<{ left: boolean }>(
    'SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = to_regclass($1)) AS left',
    [topicTable(topicId)],
  );
  return oneRow(answer).left || dropTable(client, topicTable(topicId), 'millrace.record_batches');
}
