import type { Client } from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../../../bench/support/timing.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { LogSite } from './log-site.ts';
import { batch, transaction, values } from '../../log/records.ts';
import { startsAt } from '../../support/starts.ts';
import { cancelIn, createIn } from '../../support/groups/group-writes.ts';

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
  const [made] = await createIn(storage.groups, [{ groupId, topicId: topic.id, offsets: startsAt(offsets) }]);
  return made!.id;
};

/** The start of a subscription in each partition, in order; also of a cancelled one. */
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

/** Resolves when a session of the broker waits for a lock. */
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
  test('AddPartitions does not make a topic that does not exist', async () => {
    await storage.topics.deleteTopic(topic.id);
    expect(await storage.topics.addPartitions(topic.id, 4)).toBeNull();
    expect(await site.number('SELECT count(*) AS n FROM millrace.partitions WHERE topic_id = $1', [topic.id])).toBe(0);
  });

  test('AddPartitions and an append in flight do not wait for each other', async () => {
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
});

describe('a cancelled subscription of a topic that grows', () => {
  test('a cancelled subscription gets no cursors when its topic grows', async () => {
    const subscription = await subscribe(7, 9);
    await cancelIn(storage.groups, subscription);
    await grow(4);
    expect(await starts(subscription)).toEqual([7, 9]);
  });
});

test('AddPartitions gives no cursors to a group that is deleted meanwhile, and is not refused', async () => {
  const subscription = await subscribe(7, 9);
  const other = await site.session();
  await other.query('BEGIN');
  await other.query('DELETE FROM millrace.consumer_groups WHERE id = $1', [groupId]);
  const growing = grow(4);
  await untilWaiting('topics');
  await other.query('COMMIT');
  expect((await growing).partitions).toHaveLength(4);
  expect(await starts(subscription)).toEqual([]);
});

describe('a subscription that is made while the topic grows has a cursor in every partition', () => {
  let other: Client;
  beforeEach(async () => {
    other = await site.session();
    await other.query('BEGIN');
  });

  test('a new subscription has cursors in all partitions if the growth of its topic commits first', async () => {
    await other.query('SELECT 1 FROM millrace.topics WHERE id = $1 FOR UPDATE', [topic.id]);
    await other.query('INSERT INTO millrace.partitions (topic_id, partition) VALUES ($1, 2), ($1, 3)', [topic.id]);
    const subscribing = subscribe(7, 9);
    await untilWaiting('groups');
    await other.query('COMMIT');
    expect(await starts(await subscribing)).toEqual([7, 9, 0, 0]);
  });

  test('a new subscription has cursors in all partitions if it commits before the growth of its topic', async () => {
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

test('groups that subscribe concurrently to topics that grow have all partitions, and no transaction waits for ever', async () => {
  const topics = [topic, await site.topic(storage, 2), await site.topic(storage, 2)];
  const ids = await Promise.all(Array.from({ length: 12 }, (_, n) => storage.groups.createGroup(`crowd-${n}`)));
  const growing = topics.flatMap(({ id }) => [3, 4, 5].map((count) => storage.topics.addPartitions(id, count)));
  const subscribing = ids.map((group) =>
    createIn(
      storage.groups,
      topics.map(({ id }) => ({ groupId: group, topicId: id, offsets: startsAt([7, 9]) })),
    ),
  );
  await Promise.all(growing);
  const made = (await Promise.all(subscribing)).flat();
  expect(made).toHaveLength(36);
  for (const { id } of made) expect(await starts(id)).toEqual([7, 9, 0, 0, 0]);
});
