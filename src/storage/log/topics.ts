import { asc, drizzle, eq, getTableColumns, nowSql } from '../pg/drizzle.ts';
import type { Client } from 'pg';
import type { NewTopic, TopicChange, TopicRow, TopicStore } from '../../log/store.ts';
import type { Connection } from '../sessions/connection.ts';
import { epochMs } from '../pg/epoch.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { ringTables } from '../commit/idempotency.ts';
import { partitions, topics } from '../schema/log-schema.ts';
import { nameKey } from '../schema/namespaces.ts';
import { planDeletion } from './deletion.ts';
import { createFirstSegment, createTopicTable, lockPartitions, lockTopic } from './segments.ts';
import type { Writer } from '../sessions/writer.ts';

interface TopicStoreOptions {
  readonly writer: Writer;
  /** Creates tables, and may wait for sessions that lock their parents. */
  readonly tables: Writer;
  /** Reads topics. */
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
    return this.#o.admin.run((client) => load(client, this.#o.now));
  }

  createTopic(topic: NewTopic): Promise<TopicRow | null> {
    return this.#o.tables.transaction(async (client) => {
      const { name, idempotencyWindowMs, description, retention } = topic;
      const { now } = this.#o;
      const [made] = await drizzle(client)
        .insert(topics)
        .values({
          ...nameKey(name),
          semantics: 'PUB_SUB',
          idempotencyWindowMs,
          description,
          ...retention,
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
      return (await load(client, now, made.id))[0] ?? null;
    });
  }

  updateTopic(topicId: number, { retention, ...rest }: TopicChange): Promise<TopicRow | null> {
    // A column that the call does not name is not written, because another call may change it.
    const columns = { ...rest, ...retention };
    return this.#o.writer.transaction(async (client) => {
      if (Object.keys(columns).length > 0) {
        await drizzle(client).update(topics).set(columns).where(eq(topics.id, topicId));
      }
      return (await load(client, this.#o.now, topicId))[0] ?? null;
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
           SELECT id, topic_id FROM millrace.subscriptions WHERE topic_id = $1 AND state <> 'CANCELLED' ORDER BY id FOR KEY SHARE
         ), added AS (
           INSERT INTO millrace.partitions (topic_id, partition)
           SELECT t.id, generate_series((SELECT count(*)::integer FROM millrace.partitions WHERE topic_id = t.id), $2::integer - 1)
             FROM millrace.topics AS t WHERE t.id = $1
           RETURNING topic_id, partition
         )
         INSERT INTO millrace.cursors (subscription_id, partition, lane, committed_offset, start_offset)
         SELECT s.id, added.partition, 0, 0, 0 FROM added JOIN subscribed AS s USING (topic_id)`,
        [topicId, count],
      );
      return (await load(client, this.#o.now, topicId))[0] ?? null;
    });
  }

  async deleteTopic(topicId: number): Promise<void> {
    await this.#o.writer.transaction(async (client) => {
      // The locks wait for appends in flight. Later appends find no partitions and fail.
      const segment = await lockTopic(client, topicId, 'UPDATE');
      if (segment === null) return;
      // The cascade locks the subscriptions in the order of the heap, and other writes in that of
      // ids.
      await client.query('SELECT 1 FROM millrace.subscriptions WHERE topic_id = $1 ORDER BY id FOR UPDATE', [topicId]);
      await lockPartitions(client, topicId);
      await planDeletion(client, { id: topicId, segment }, this.#o.now);
      for (let table = 0; table < ringTables; table++) {
        await client.query(`DELETE FROM millrace.idempotency_${table} WHERE topic_id = $1`, [topicId]);
      }
      await drizzle(client).delete(topics).where(eq(topics.id, topicId));
    });
    this.#o.onChanged(topicId);
  }
}

async function load(client: Client, now: Now, topicId?: number): Promise<TopicRow[]> {
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
  const sizes = await loadSizes(client, now, topicId);
  return rows.map(({ afterCompletionMs, excusedKeepMs, maxAgeMs, maxBytes, keepUnsubscribedMs, ...row }) => ({
    ...row,
    ...(sizes.get(row.id) ?? noSizes),
    retention: { afterCompletionMs, excusedKeepMs, maxAgeMs, maxBytes, keepUnsubscribedMs },
    partitions: ofTopic.get(row.id) ?? [],
  }));
}

type Sizes = Pick<TopicRow, 'liveSubscriptions' | 'segmentAgeMs' | 'segmentBytes' | 'sealedBytes' | 'segmentCount'>;

const noSizes: Sizes = { liveSubscriptions: 0, segmentAgeMs: 0, segmentBytes: 0, sealedBytes: 0, segmentCount: 1 };

/** Segments and live subscriptions by topic. Each is one pass over all topics, or reads one. */
async function loadSizes(client: Client, now: Now, topicId?: number): Promise<Map<number, Sizes>> {
  const { rows } = await client.query<{
    id: number;
    live: number;
    age_ms: number;
    bytes: number;
    sealed_bytes: number;
    count: number;
  }>(
    `WITH stored AS (
       SELECT s.topic_id, count(*)::integer AS count,
              coalesce(sum(s.bytes) FILTER (WHERE s.segment < t.segment), 0)::float8 AS sealed_bytes,
              coalesce(sum(s.bytes) FILTER (WHERE s.segment = t.segment), 0)::float8 AS bytes,
              extract(epoch FROM ${nowOf('$2')} - max(s.created_at) FILTER (WHERE s.segment = t.segment))::float8 * 1000 AS age_ms
         FROM millrace.segments AS s JOIN millrace.topics AS t ON t.id = s.topic_id
        WHERE s.segment <= t.segment AND ($1::integer IS NULL OR s.topic_id = $1) GROUP BY s.topic_id
     ), subscribed AS (
       SELECT topic_id, count(*)::integer AS live FROM millrace.subscriptions
        WHERE state IN ('ACTIVE', 'PAUSED') AND ($1::integer IS NULL OR topic_id = $1) GROUP BY topic_id
     )
     SELECT stored.topic_id AS id, coalesce(live, 0) AS live, age_ms, bytes, sealed_bytes, count
       FROM stored LEFT JOIN subscribed USING (topic_id)`,
    [topicId ?? null, now()],
  );
  return new Map(
    rows.map(({ id, live, age_ms: segmentAgeMs, bytes: segmentBytes, sealed_bytes: sealedBytes, count }) => [
      id,
      { liveSubscriptions: live, segmentAgeMs, segmentBytes, sealedBytes, segmentCount: count },
    ]),
  );
}
