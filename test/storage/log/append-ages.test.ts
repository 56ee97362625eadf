import type { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RecordPlace, TopicRow } from '../../../src/log/store.ts';
import { databaseClock } from '../../../src/storage/pg/now.ts';
import { appendAges } from '../../../src/storage/log/read.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { dropAll } from '../../support/retention/drop-all.ts';
import { LogSite } from './log-site.ts';
import { batch, transaction, values } from '../../log/records.ts';

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

test('the ages of a deleted topic are null, without an error', async () => {
  const topic = await site.topic(storage, 1);
  await append(topic, 0, 1);
  expect(await storage.log.appendAges(topic.id, [at(0, 0)])).toEqual([expect.any(Number)]);
  await storage.topics.deleteTopic(topic.id);
  await dropAll(storage.retention);
  expect(await storage.log.appendAges(topic.id, [at(0, 0)])).toEqual([null]);
});

test('each age is read by the primary key, however many rows the segment has', async () => {
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
  await appendAges(explaining as unknown as Client, 1, topic.id, places, databaseClock);
  expect(plan.join('\n')).toMatch(/Index Scan Backward using \w+_pkey/);
  expect(plan.join('\n')).not.toMatch(/Seq Scan/);
});
