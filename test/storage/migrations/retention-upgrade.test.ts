import { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import { migrate } from '../../../src/storage/migrations/migrate.ts';
import { takeFence } from '../../../src/storage/sessions/fence.ts';
import { retentionSlot, tableSlot, topicSlot } from '../../../src/storage/sessions/writer.ts';
import { openStorage, type Storage } from '../../../src/storage/storage.ts';
import { systemClock } from '../../../src/time/system.ts';
import { batch, readAll, roll, transaction, values } from '../../log/records.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import { dropAll } from '../../support/retention/drop-all.ts';
import { keepsForever } from '../../support/retention/stored-segments.ts';
import { catalogOf } from './catalog.ts';
import { rollBack } from './roll-back.ts';

/** The way to retention and back, with data in the database. */

const before = 10;

let database: TestDatabase;
let client: Client;
let cleanups: (() => Promise<unknown>)[];
let told: string[];

beforeEach(async () => {
  database = await createTestDatabase();
  cleanups = [() => database.drop()];
  client = new Client({ connectionString: database.url });
  await client.connect();
  cleanups.push(() => client.end());
  told = [];
});

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

/** The storage of the owner, after the migration to the newest version. */
async function own(): Promise<Storage> {
  const log = {
    info: (_: object, text: string) => told.push(text),
    warn: (_: object, text: string) => told.push(text),
  };
  const address = parseDatabaseAddress(database.url);
  const storage = openStorage({ address, brokerId: 'one', appendSlots: 1, clock: systemClock, log });
  cleanups.push(() => storage.close());
  storage.setEpoch(1);
  await storage.migrate();
  await takeFence(client, 'one', 1, [0, topicSlot, tableSlot, retentionSlot]);
  return storage;
}

const append = async (storage: Storage, name: string, ...texts: string[]): Promise<void> => {
  const topic = (await storage.topics.loadTopics()).find((one) => one.name === name)!;
  await storage.commits.append(0, transaction([batch(topic, 0, values(...texts))]));
};

/** A topic with a sealed segment and a subscription that is behind it. */
async function fill(storage: Storage): Promise<number> {
  const wanted = { name: 'orders', partitions: 1, idempotencyWindowMs: 60_000, description: '' };
  const topic = (await storage.topics.createTopic({ ...wanted, retention: { ...keepsForever, maxAgeMs: 1 } }))!;
  await append(storage, 'orders', 'a', 'b');
  await roll(storage, topic.id, 1);
  await append(storage, 'orders', 'c');
  await client.query(`
    INSERT INTO millrace.consumer_groups (name) VALUES ('billing'), ('gone');
    INSERT INTO millrace.subscriptions (group_id, topic_id) VALUES (1, ${topic.id});
    INSERT INTO millrace.subscriptions (group_id, topic_id, state, cancelled_at) VALUES (2, ${topic.id}, 'CANCELLED', now());
    INSERT INTO millrace.cursors (subscription_id, partition, lane, committed_offset) VALUES (1, 0, 0, 2)`);
  return topic.id;
}

const subscriptions = async () => {
  const { rows } = await client.query<Record<string, unknown>>(
    'SELECT state, state_reason, dead_after_ms, unattended_since, claim_seq FROM millrace.subscriptions ORDER BY id',
  );
  return rows;
};

describe('the way to retention', () => {
  test('topics from before keep everything, their subscriptions never die, and the log says so once', async () => {
    const topicId = await fill(await own());
    await rollBack(client, before);
    told = [];
    const storage = await own();
    expect(told.filter((text) => text.includes('keep everything'))).toHaveLength(1);
    const [topic] = await storage.topics.loadTopics();
    expect(topic!.retention).toEqual(keepsForever);
    expect(topic).toMatchObject({ liveSubscriptions: 1, segmentCount: 2, gapReason: 'RETENTION' });
    expect(topic!.sealedBytes).toBeGreaterThan(0);
    expect(await subscriptions()).toEqual([
      { state: 'ACTIVE', state_reason: 'UNKNOWN', dead_after_ms: null, unattended_since: null, claim_seq: 0 },
      { state: 'CANCELLED', state_reason: 'CANCELLED', dead_after_ms: null, unattended_since: null, claim_seq: 0 },
    ]);
    const facts = (await storage.retention.facts(topicId))!;
    expect(facts.claims.map(({ state, needs }) => [state, needs])).toEqual([['ACTIVE', 2]]);
    expect(facts.sealed).toMatchObject([{ segment: 1, completedAtMs: null }]);
    await append(storage, 'orders', 'd');
    const texts = (await readAll(storage, topic!, 0)).map(({ parts }) => parts[2]);
    expect(texts).toEqual(['a', 'b', 'c', 'd']);
    told = [];
    await storage.migrate();
    expect(told).toEqual([]);
  });

  test('a start on an empty database says nothing of topics from before', async () => {
    await own();
    expect(told.filter((text) => text.includes('keep everything'))).toEqual([]);
  });

  test('the tables of a topic that was deleted before are dropped after the migration, its own the last', async () => {
    const storage = await own();
    const topicId = await fill(storage);
    await storage.topics.deleteTopic(topicId);
    await rollBack(client, before);
    const { rows } = await client.query(
      'SELECT segment FROM millrace.segment_drops WHERE done_at IS NULL ORDER BY segment',
    );
    expect(rows).toEqual([{ segment: 1 }, { segment: 2 }]);
    const next = await own();
    await dropAll(next.retention);
    expect(await next.retention.pendingDrops()).toEqual([]);
    const left = await client.query(`SELECT FROM pg_class WHERE relname ~ '^record_batches_${topicId}(_|$)'`);
    expect(left.rowCount).toBe(0);
  });
});

describe('the way back from retention', () => {
  test('the way back leaves the schema of before, and a DEAD subscription holds back again', async () => {
    await migrate(client, before);
    const catalog = await catalogOf(client);
    await migrate(client);
    await client.query(`
      INSERT INTO millrace.topics (name, semantics, idempotency_window_ms, description, segment) VALUES ('t', 'PUB_SUB', 1, '', 1);
      INSERT INTO millrace.consumer_groups (name) VALUES ('billing');
      INSERT INTO millrace.subscriptions (group_id, topic_id, state) VALUES (1, 1, 'DEAD')`);
    await rollBack(client, before);
    expect(await catalogOf(client)).toEqual(catalog);
    const { rows } = await client.query('SELECT state FROM millrace.subscriptions');
    expect(rows).toEqual([{ state: 'ACTIVE' }]);
  });

  test('the way back forgets caps and refused publishes, keeps every record, and the next upgrade keeps everything', async () => {
    const storage = await own();
    const topicId = await fill(storage);
    await client.query('UPDATE millrace.topics SET max_bytes = 1048576, keep_unsubscribed_ms = NULL WHERE id = $1', [
      topicId,
    ]);
    const [chosen] = await storage.topics.loadTopics();
    expect(chosen!.retention).toMatchObject({ maxAgeMs: 1, maxBytes: 1_048_576, keepUnsubscribedMs: null });
    await rollBack(client, before);
    const next = await own();
    const [topic] = await next.topics.loadTopics();
    expect(topic!.retention).toEqual(keepsForever);
    const texts = (await readAll(next, topic!, 0)).map(({ parts }) => parts[2]);
    expect(texts).toEqual(['a', 'b', 'c']);
  });

  test('the way back is refused once a segment of a topic that lives has gone, and changes nothing', async () => {
    const storage = await own();
    const topicId = await fill(storage);
    const facts = (await storage.retention.facts(topicId))!;
    await storage.retention.plan({ facts, drop: [{ segment: 1, reason: 'COMPLETED' }], complete: [] });
    await refused('segments of a topic have been dropped');
    await (await own()).topics.deleteTopic(topicId);
    await rollBack(client, before);
  });

  test('the way back is refused while a subscription is PAUSED, because an older Millrace would deliver to it', async () => {
    await fill(await own());
    await client.query("UPDATE millrace.subscriptions SET state = 'PAUSED' WHERE id = 1");
    await refused('a subscription is PAUSED');
    await client.query("UPDATE millrace.subscriptions SET state = 'ACTIVE' WHERE id = 1");
    await rollBack(client, before);
  });
});

async function refused(message: string): Promise<void> {
  await rollBack(client, before + 1);
  const catalog = await catalogOf(client);
  await expect(rollBack(client, before)).rejects.toThrow(message);
  await client.query('ROLLBACK');
  expect(await catalogOf(client)).toEqual(catalog);
}
