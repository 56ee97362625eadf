import type { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SegmentMoved } from '../../../src/commit/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { appendSlots, LogSite } from './log-site.ts';
import { dropAll } from '../../support/retention/drop-all.ts';
import { batch, readAll, roll, transaction, values } from '../../log/records.ts';

let site: LogSite;
let storage: Storage;

beforeAll(async () => {
  site = await LogSite.open();
  storage = await site.own('one', 1);
});

afterAll(() => site.close());

const append = (topic: TopicRow, segment: number, partition: number, ...texts: string[]) =>
  storage.commits.append(0, transaction([batch({ ...topic, segment }, partition, values(...texts))]));

const textsOf = async (topic: TopicRow, partition: number, from = 0) =>
  (await readAll(storage, topic, partition, from)).map(({ offset, parts }) => `${offset}:${parts[2]}`);

const pidOf = async (client: Client): Promise<number> =>
  (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;

const tablesOf = async (topicId: number): Promise<string[]> => {
  const { rows } = await site.client.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relkind IN ('r', 'p') AND relname ~ $1 ORDER BY 1`,
    [`^record_batches_${topicId}(_|$)`],
  );
  return rows.map(({ name }) => name);
};

describe('a log that goes on in a new segment', () => {
  test('a log loses no record that is appended while it rolls', async () => {
    const topic = await site.topic(storage, 2);
    const current = { ...topic };
    const confirmed: string[] = [];
    let moved = 0;
    let rolling = true;
    const publish = async (slot: number): Promise<void> => {
      for (let n = 0; rolling; n++) {
        const text = `${slot}/${n}`;
        const write = () =>
          storage.commits.append(slot, transaction([0, 1].map((partition) => batch(current, partition, values(text)))));
        for (;;) {
          try {
            await write();
            break;
          } catch (error) {
            if (!(error instanceof SegmentMoved)) throw error;
            moved++;
            current.segment = await storage.log.rollSegment(topic.id, 0);
          }
        }
        confirmed.push(text);
      }
    };
    const publishers = Array.from({ length: appendSlots }, (_, slot) => publish(slot));
    for (let segment = 1; segment < 10; segment++) await roll(storage, topic.id, segment);
    rolling = false;
    await Promise.all(publishers);
    expect(moved).toBeGreaterThan(0);
    for (const partition of [0, 1]) {
      const stored = await readAll(storage, topic, partition);
      expect(stored.map(({ parts }) => parts[2]).sort()).toEqual([...confirmed].sort());
      expect(stored.map(({ offset }) => offset)).toEqual(Array.from(stored, (_, index) => index));
    }
  });

  test('a log stays in its segment while the next one cannot be attached, and no publish waits for it', async () => {
    const topic = await site.topic(storage, 2);
    const analyzing = await site.session();
    await analyzing.query('BEGIN');
    // An ANALYZE of the whole database takes this lock until it ends.
    await analyzing.query(
      `LOCK TABLE ONLY millrace.record_batches, ONLY millrace.record_batches_${topic.id} IN SHARE UPDATE EXCLUSIVE MODE`,
    );
    let making = true;
    const made = storage.log.makeSegment(topic.id, 1).finally(() => (making = false));
    const givenUp = expect(made).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    let appended = 0;
    for (; making; appended++) {
      await append(topic, 1, appended % 2, 'x');
      expect(await storage.log.rollSegment(topic.id, 1)).toBe(1);
      expect((await storage.log.ends(topic.id))[appended % 2]!.endOffset).toBe(Math.floor(appended / 2) + 1);
    }
    await givenUp;
    expect(appended).toBeGreaterThan(1);
    // A next segment from before the ANALYZE can take appends during it.
    await analyzing.query('COMMIT');
    await storage.log.makeSegment(topic.id, 1);
    await analyzing.query('BEGIN');
    await analyzing.query(
      `LOCK TABLE ONLY millrace.record_batches, ONLY millrace.record_batches_${topic.id} IN SHARE UPDATE EXCLUSIVE MODE`,
    );
    expect(await storage.log.rollSegment(topic.id, 1)).toBe(2);
    await append(topic, 2, 0, 'y');
    await analyzing.query('COMMIT');
    expect((await textsOf(topic, 0)).at(-1)).toBe(`${Math.ceil(appended / 2)}:y`);
  });

  test('a partition that is added during a roll has a base, or its records would be read twice or never', async () => {
    const topic = await site.topic(storage, 1);
    await append(topic, 1, 0, 'a');
    await storage.log.makeSegment(topic.id, 1);
    const adding = await site.session();
    await adding.query('BEGIN');
    await adding.query('SELECT 1 FROM millrace.topics WHERE id = $1 FOR UPDATE', [topic.id]);
    await adding.query('INSERT INTO millrace.partitions (topic_id, partition) VALUES ($1, 1)', [topic.id]);
    const rolled = storage.log.rollSegment(topic.id, 1);
    await site.until('SELECT count(*) AS n FROM pg_stat_activity WHERE pg_blocking_pids(pid) = ARRAY[$1::int]', [
      await pidOf(adding),
    ]);
    await adding.query('COMMIT');
    expect(await rolled).toBe(2);
    const bases = 'SELECT count(*) AS n FROM millrace.segment_bases WHERE topic_id = $1 AND segment = 2';
    expect(await site.number(bases, [topic.id])).toBe(2);
  });

  test('every call locks the topic before its partitions, or two of them would deadlock', async () => {
    const works: ((topic: TopicRow) => Promise<unknown>)[] = [
      ({ id }) => storage.log.ends(id),
      ({ id }) => storage.log.rollSegment(id, 1),
      ({ id }) => storage.topics.addPartitions(id, 3),
      ({ id }) => storage.topics.deleteTopic(id),
    ];
    for (const work of works) {
      const topic = await site.topic(storage, 2);
      await storage.log.makeSegment(topic.id, 1);
      const other = await site.session();
      await other.query('BEGIN');
      await other.query('SELECT 1 FROM millrace.topics WHERE id = $1 FOR UPDATE', [topic.id]);
      const done = work(topic);
      await site.until('SELECT count(*) AS n FROM pg_stat_activity WHERE pg_blocking_pids(pid) = ARRAY[$1::int]', [
        await pidOf(other),
      ]);
      await other.query("SET LOCAL lock_timeout = '1ms'");
      await other.query('SELECT 1 FROM millrace.partitions WHERE topic_id = $1 ORDER BY id FOR UPDATE', [topic.id]);
      await other.query('COMMIT');
      await done;
    }
  });
});

describe('a topic that is deleted', () => {
  test('a deleted topic loses its tables, keeps those of others, and is in the audit', async () => {
    const [topic, other] = [await site.topic(storage, 1), await site.topic(storage, 1)];
    for (const one of [topic, other]) {
      const keys = [{ topicId: one.id, key: 'k', batch: 0, index: 0 }];
      await storage.commits.append(0, transaction([batch(one, 0, values('x'))], keys));
      await roll(storage, one.id, 1);
    }
    await storage.topics.deleteTopic(topic.id);
    expect(await storage.commits.findKeys(topic.id, 60_000, ['k'])).toEqual(new Map());
    await dropAll(storage.retention);
    await dropAll(storage.retention);
    expect(await tablesOf(topic.id)).toEqual([]);
    expect((await tablesOf(other.id)).length).toBe(3);
    expect(await textsOf(other, 0)).toEqual(['0:x']);
    expect((await storage.commits.findKeys(other.id, 60_000, ['k'])).size).toBe(1);
    const audit = 'SELECT count(done_at)::int AS n FROM millrace.segment_drops WHERE topic_id = $1 AND topic_name = $2';
    // Its two segments, and the table of the topic itself.
    expect(await site.number(audit, [topic.id, topic.name])).toBe(3);
    expect((await storage.topics.loadTopics()).map(({ id }) => id)).not.toContain(topic.id);
  });

  test('a deleted topic with a reader is dropped later, and appends to other topics go on', async () => {
    const [topic, other] = [await site.topic(storage, 1), await site.topic(storage, 1)];
    await append(topic, 1, 0, 'x');
    const reader = await site.session();
    await reader.query('BEGIN');
    await reader.query('SELECT count(*) FROM millrace.messages');
    await storage.topics.deleteTopic(topic.id);
    await dropAll(storage.retention);
    for (let appended = 0; appended < 20; appended++) await append(other, 1, 0, 'y');
    const left = 'SELECT count(*) AS n FROM millrace.segment_drops WHERE topic_id = $1 AND done_at IS NULL';
    // Its segment, and the table of the topic itself.
    expect(await site.number(left, [topic.id])).toBe(2);
    await reader.query('COMMIT');
    await dropAll(storage.retention);
    await dropAll(storage.retention);
    expect(await tablesOf(topic.id)).toEqual([]);
    expect(await site.number(left, [topic.id])).toBe(0);
  });

  test('a reader of all topics delays only the table of the deleted topic, which goes when the reader ends', async () => {
    const [topic, other] = [await site.topic(storage, 1), await site.topic(storage, 1)];
    await storage.topics.deleteTopic(topic.id);
    const reader = await site.session();
    await reader.query('BEGIN');
    // Only the outermost table is locked, so that the segment can still be dropped.
    await reader.query(`LOCK TABLE ONLY millrace.record_batches IN ACCESS SHARE MODE`);
    const dropping = dropAll(storage.retention);
    await site.until('SELECT count(*) AS n FROM pg_stat_activity WHERE pg_blocking_pids(pid) = ARRAY[$1::int]', [
      await pidOf(reader),
    ]);
    expect(await tablesOf(topic.id)).toEqual([`record_batches_${topic.id}`]);
    await append(other, 1, 0, 'y');
    await reader.query('COMMIT');
    await dropping;
    expect(await tablesOf(topic.id)).toEqual([]);
  });

  test('a deleted topic has no records, and a read of it is no error', async () => {
    const topic = await site.topic(storage, 1);
    await append(topic, 1, 0, 'x');
    expect(await textsOf(topic, 0)).toEqual(['0:x']);
    // Another storage deletes it, so that this one still has its segments in memory.
    await site.storage('one', 1).topics.deleteTopic(topic.id);
    await dropAll(storage.retention);
    expect(await textsOf(topic, 0)).toEqual([]);
    expect(await storage.log.offsetAtTime(topic.id, 0, 0, 0)).toBeNull();
  });
});
