import type { Client } from 'pg';
import { begunAt } from '../../src/consumption/partitioned/cursor.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../../bench/support/timing.ts';
import type { TopicRow } from '../../src/log/store.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { batch, LogSite, readAll, roll, transaction, values } from './log-site.ts';
import { startsAt } from '../support/starts.ts';
import { allCursors } from '../support/loads.ts';

let site: LogSite;
let storage: Storage;
let topic: TopicRow;
let groupId: number;
let groups = 0;

beforeAll(async () => {
  site = await LogSite.open();
  storage = await site.own('one', 1);
});

beforeEach(async () => {
  topic = await site.topic(storage, 2);
  groupId = await storage.groups.createGroup(`group-${++groups}`);
});

afterAll(() => site.close());

const grow = async (count: number): Promise<TopicRow> => (await storage.topics.addPartitions(topic.id, count))!;

const subscribe = async (...offsets: number[]): Promise<number> => {
  const [made] = await storage.groups.createSubscriptions([{ groupId, topicId: topic.id, offsets: startsAt(offsets) }]);
  return made!.id;
};

/** Where a subscription begins in each partition, by their numbers; of a cancelled one too. */
const starts = async (subscriptionId: number): Promise<number[]> => {
  const { rows } = await site.client.query<{ partition: number; start: string }>(
    'SELECT partition, committed_offset AS start FROM millrace.cursors WHERE subscription_id = $1 ORDER BY partition, lane',
    [subscriptionId],
  );
  expect(rows.map(({ partition }) => partition)).toEqual([...rows.keys()]);
  return rows.map(({ start }) => Number(start));
};

const append = async (at: TopicRow, partition: number, ...texts: string[]): Promise<number> => {
  const [appended] = await storage.commits.append(0, transaction([batch(at, partition, values(...texts))]));
  return appended!.baseOffset;
};

/** Until a session of the broker waits for a lock that somebody else has. */
const untilWaiting = (purpose: string): Promise<void> =>
  waitFor(`${purpose} to wait for a lock`, 10_000, 2, async () => {
    const waiting = await site.number(
      `SELECT count(*) AS n FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = $1`,
      [`millrace/one/${purpose}`],
    );
    return waiting > 0;
  });

describe('a topic that gets more partitions', () => {
  test('keeps those that it has, and the new ones begin at 0', async () => {
    await append(topic, 1, 'a', 'b');
    const grown = await grow(5);
    expect(grown).toEqual({ ...topic, partitions: grown.partitions });
    expect(grown.partitions.slice(0, 2)).toEqual(topic.partitions);
    expect(grown.partitions.map(({ partition }) => partition)).toEqual([0, 1, 2, 3, 4]);
    expect(await append(grown, 4, 'x')).toBe(0);
    expect(await append(grown, 1, 'c')).toBe(2);
    expect((await storage.log.ends(topic.id)).map(({ endOffset }) => endOffset)).toEqual([0, 3, 0, 0, 1]);
    expect((await storage.topics.loadTopics()).find(({ id }) => id === topic.id)).toEqual(grown);
  });

  test('stays as it is when it has them already, or more', async () => {
    const subscription = await subscribe(0, 0);
    const grown = await grow(4);
    for (const count of [4, 3, 1]) expect(await grow(count)).toEqual(grown);
    expect(await starts(subscription)).toEqual([0, 0, 0, 0]);
  });

  test('that is not there is not made', async () => {
    await storage.topics.deleteTopic(topic.id);
    expect(await storage.topics.addPartitions(topic.id, 4)).toBeNull();
    expect(await site.number('SELECT count(*) AS n FROM millrace.partitions WHERE topic_id = $1', [topic.id])).toBe(0);
  });

  test('does not get them from a broker that was taken over from', async () => {
    const old = site.storage('one', 0);
    await expect(old.topics.addPartitions(topic.id, 4)).rejects.toMatchObject({ kind: 'FENCED' });
    expect((await grow(1)).partitions).toHaveLength(2);
  });

  test('does not wait for an append in flight, nor does one wait for it', async () => {
    const appending = await site.session();
    await appending.query('BEGIN');
    await appending.query('SELECT 1 FROM millrace.partitions WHERE topic_id = $1 FOR UPDATE', [topic.id]);
    expect((await grow(3)).partitions).toHaveLength(3);
    await appending.query('ROLLBACK');
    await appending.query('BEGIN');
    await appending.query('SELECT 1 FROM millrace.topics WHERE id = $1 FOR UPDATE', [topic.id]);
    expect(await append(topic, 0, 'x')).toBe(0);
    await appending.query('ROLLBACK');
  });

  test('in a later segment has them whole, through the segments that follow', async () => {
    await append(topic, 0, 'a');
    await roll(storage, topic.id, 1);
    const grown = await grow(3);
    expect(grown.segment).toBe(2);
    expect(await append(grown, 2, 'x', 'y')).toBe(0);
    await roll(storage, topic.id, 2);
    expect(await append({ ...grown, segment: 3 }, 2, 'z')).toBe(2);
    for (const reader of [storage, site.storage('one', 1)]) {
      const read = await readAll(reader, topic, 2);
      expect(read.map(({ offset, parts }) => `${offset}:${parts[2]}`)).toEqual(['0:x', '1:y', '2:z']);
      expect(await reader.log.offsetAtTime(topic.id, 2, 0, read[2]!.appendTimeUs)).toBe(2);
    }
  });
});

describe('a subscription of a topic that grows', () => {
  test('begins at 0 in the new partitions and stays where it is in the others', async () => {
    const subscription = await subscribe(7, 9);
    await grow(4);
    expect(await starts(subscription)).toEqual([7, 9, 0, 0]);
  });

  test('that was cancelled is left alone', async () => {
    const subscription = await subscribe(7, 9);
    await storage.groups.cancelSubscription(subscription);
    await grow(4);
    expect(await starts(subscription)).toEqual([7, 9]);
  });

  test('keeps what is acked in a new partition through a fold and a change of the owner', async () => {
    const subscriptionId = await subscribe(0, 0);
    await grow(3);
    const key = { subscriptionId, partition: 2, lane: 0 };
    const cursor = { ...begunAt(5), acked: [7, 8] };
    const loaded = async () =>
      (await allCursors(site.storage('one', 1).groups)).find(
        (one) => one.key.subscriptionId === subscriptionId && one.key.partition === 2,
      );
    await storage.commits.appendAcks({ table: 0, deltas: [{ key, delta: cursor }], receipts: [] });
    expect(await loaded()).toEqual({ key, cursor });
    await storage.groups.fold(1, () => [{ key, cursor }]);
    expect(await loaded()).toEqual({ key, cursor });
  });

  test('whose starts were chosen before it grew begins at 0 in the rest', async () => {
    await grow(4);
    expect(await starts(await subscribe(7, 9))).toEqual([7, 9, 0, 0]);
  });
});

describe('a subscription that is made while the topic grows has a cursor in every partition', () => {
  let other: Client;
  beforeEach(async () => {
    other = await site.session();
    await other.query('BEGIN');
  });

  test('when the growing commits first', async () => {
    await other.query('SELECT 1 FROM millrace.topics WHERE id = $1 FOR UPDATE', [topic.id]);
    await other.query('INSERT INTO millrace.partitions (topic_id, partition) VALUES ($1, 2), ($1, 3)', [topic.id]);
    const subscribing = subscribe(7, 9);
    await untilWaiting('groups');
    await other.query('COMMIT');
    expect(await starts(await subscribing)).toEqual([7, 9, 0, 0]);
  });

  test('when the subscription commits first', async () => {
    const { rows } = await other.query<{ id: number }>(
      'INSERT INTO millrace.subscriptions (group_id, topic_id) VALUES ($1, $2) RETURNING id',
      [groupId, topic.id],
    );
    const { id } = rows[0]!;
    await other.query('INSERT INTO millrace.cursors VALUES ($1, 0, 0, 7), ($1, 1, 0, 9)', [id]);
    const growing = grow(4);
    await untilWaiting('topics');
    await other.query('COMMIT');
    await growing;
    expect(await starts(id)).toEqual([7, 9, 0, 0]);
  });
});

test('many groups that subscribe at once to topics that grow have all partitions, and nobody waits for ever', async () => {
  const topics = [topic, await site.topic(storage, 2), await site.topic(storage, 2)];
  const ids = await Promise.all(Array.from({ length: 12 }, (_, n) => storage.groups.createGroup(`crowd-${n}`)));
  const growing = topics.flatMap(({ id }) => [3, 4, 5].map((count) => storage.topics.addPartitions(id, count)));
  const subscribing = ids.map((group) =>
    storage.groups.createSubscriptions(
      topics.map(({ id }) => ({ groupId: group, topicId: id, offsets: startsAt([7, 9]) })),
    ),
  );
  await Promise.all(growing);
  const made = (await Promise.all(subscribing)).flat();
  expect(made).toHaveLength(36);
  for (const { id } of made) expect(await starts(id)).toEqual([7, 9, 0, 0, 0]);
});
