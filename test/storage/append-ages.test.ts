import type { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RecordPlace, TopicRow } from '../../src/log/store.ts';
import { appendAges } from '../../src/storage/log/read.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { batch, LogSite, roll, transaction, values } from './log-site.ts';

let site: LogSite;
let storage: Storage;

beforeAll(async () => {
  site = await LogSite.open();
  storage = await site.own('one', 1);
});

afterAll(() => site.close());

const at = (partition: number, offset: number): RecordPlace => ({ partition, lane: 0, offset });

async function append(topic: TopicRow, partition: number, count: number): Promise<void> {
  const texts = Array.from({ length: count }, (_, n) => `${n}`);
  await storage.commits.append(0, transaction([batch(topic, partition, values(...texts))]));
}

/** As if the batches from there on had been appended so many seconds earlier. */
async function age(topic: TopicRow, partition: number, baseOffset: number, seconds: number): Promise<void> {
  await site.client.query(
    `UPDATE millrace.record_batches SET appended_at = appended_at - $4 * interval '1 s'
      WHERE topic_id = $1 AND partition = $2 AND base_offset = $3`,
    [topic.id, partition, baseOffset, seconds],
  );
}

const hour = 3_600;

test('each record has the age of its batch, in the order in which they were asked for', async () => {
  const topic = await site.topic(storage, 2);
  await append(topic, 0, 3);
  await append(topic, 0, 2);
  await append(topic, 1, 1);
  await age(topic, 0, 0, 5 * hour);
  await age(topic, 0, 3, 3 * hour);
  await age(topic, 1, 0, hour);
  const ages = await storage.log.appendAges(topic.id, [at(1, 0), at(0, 2), at(0, 3), at(0, 0)]);
  const hours = ages.map((ms) => Math.round(ms! / 3_600_000));
  expect(hours).toEqual([1, 5, 3, 5]);
  for (const [index, ms] of ages.entries()) {
    const since = ms! - hours[index]! * 3_600_000;
    expect(since, 'what has passed since the append').toBeGreaterThan(0);
    expect(since).toBeLessThan(60_000);
  }
});

test('a record that is not there has no age, and does not take that of the one before', async () => {
  const topic = await site.topic(storage, 2);
  await append(topic, 0, 2);
  const wanted = [at(0, 2), at(0, 1), at(1, 0), at(7, 0)];
  expect(await storage.log.appendAges(topic.id, wanted)).toEqual([null, expect.any(Number), null, null]);
  expect(await storage.log.appendAges(topic.id, [])).toEqual([]);
});

test('a record in a sealed segment is found there, beside newer ones in the next', async () => {
  const topic = await site.topic(storage, 1);
  await append(topic, 0, 2);
  await age(topic, 0, 0, hour);
  const segment = await roll(storage, topic.id, topic.segment);
  await append({ ...topic, segment }, 0, 1);
  const [newer, older] = await storage.log.appendAges(topic.id, [at(0, 2), at(0, 1)]);
  expect([newer! < 60_000, Math.round(older! / 3_600_000)]).toEqual([true, 1]);
});

test('more records than go into one statement come back each at its place', async () => {
  const topic = await site.topic(storage, 1);
  await append(topic, 0, 3);
  const places = Array.from({ length: 2_500 }, (_, n) => at(0, n % 4));
  const ages = await storage.log.appendAges(topic.id, places);
  expect(ages.map((ms) => ms !== null)).toEqual(places.map(({ offset }) => offset < 3));
});

test('a topic that is gone has no ages, and that is no error', async () => {
  const topic = await site.topic(storage, 1);
  await append(topic, 0, 1);
  expect(await storage.log.appendAges(topic.id, [at(0, 0)])).toEqual([expect.any(Number)]);
  await storage.topics.deleteTopic(topic.id);
  await storage.topics.dropSegments();
  expect(await storage.log.appendAges(topic.id, [at(0, 0)])).toEqual([null]);
});

test('each look goes into the primary key, however many rows the segment has', async () => {
  const topic = await site.topic(storage, 1);
  for (let n = 0; n < 50; n++) await append(topic, 0, 1);
  const places = Array.from({ length: 1_000 }, (_, n) => at(0, n % 50));
  const plan: string[] = [];
  const explaining = {
    async query(text: string, parameters: unknown[]) {
      const { rows } = await site.client.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, parameters);
      plan.push(...rows.map((row) => row['QUERY PLAN']));
      return { rows: [] };
    },
  };
  await appendAges(explaining as unknown as Client, 1, topic.id, places);
  expect(plan.join('\n')).toMatch(/Index Scan Backward using \w+_pkey/);
  expect(plan.join('\n')).not.toMatch(/Seq Scan/);
});
