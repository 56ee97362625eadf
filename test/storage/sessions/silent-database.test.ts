import { afterEach, beforeEach, expect, test } from 'vitest';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { LogSite } from '../log/log-site.ts';
import { batch, readAll, transaction, values } from '../../log/records.ts';

/**
 * The database is up but does not answer, because a session has a lock for longer than the broker
 * waits.
 */
const answerMsMax = 300;

let site: LogSite;
let storage: Storage;
let topic: TopicRow;

beforeEach(async () => {
  site = await LogSite.open();
  storage = await site.own('one', 1, site.database.url, answerMsMax);
  topic = await site.topic(storage, 2);
  await append('first');
});

afterEach(async () => {
  await site.close();
});

const append = (text: string, partition = 0) =>
  storage.commits.append(0, transaction([batch(topic, partition, values(text))]));
const stored = async (): Promise<string[]> => (await readAll(storage, topic, 0)).map(({ parts }) => parts[2]!);

test('an append without an answer fails, is never written later, and the next one succeeds', async () => {
  const holder = await site.session();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM millrace.partitions WHERE id = $1 FOR UPDATE', [topic.partitions[0]!.id]);
  await expect(append('given up')).rejects.toMatchObject({
    kind: 'OUTCOME_UNKNOWN',
    cause: expect.objectContaining({ message: expect.stringContaining(`no answer for ${answerMsMax} ms`) }),
  });
  await append('elsewhere', 1);
  // The log reads its ends like this after an unknown outcome. It needs the locks of all
  // partitions.
  const ends = storage.log.ends(topic.id);
  const waiting = `SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = 'millrace/one/topics' AND wait_event_type = 'Lock'`;
  while ((await site.number(waiting)) === 0);
  await holder.query('COMMIT');
  expect((await ends).map(({ endOffset }) => endOffset)).toEqual([1, 1]);
  expect((await append('next'))[0]!.baseOffset).toBe(1);
  expect(await stored()).toEqual(['first', 'next']);
});

test('a read without an answer fails, and the next one succeeds', async () => {
  const holder = await site.session();
  await holder.query('BEGIN');
  await holder.query(`LOCK TABLE millrace.record_batches_${topic.id}_1 IN ACCESS EXCLUSIVE MODE`);
  await expect(stored()).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  await holder.query('COMMIT');
  expect(await stored()).toEqual(['first']);
});

test('an ack round without an answer fails, and the next one succeeds', async () => {
  const holder = await site.session();
  await holder.query('BEGIN');
  await holder.query('LOCK TABLE millrace.ack_log_0, millrace.ack_log_1, millrace.ack_log_2 IN ACCESS EXCLUSIVE MODE');
  await expect(storage.commits.appendAcks({ table: 0, deltas: [], receipts: [] })).rejects.toMatchObject({
    kind: 'OUTCOME_UNKNOWN',
  });
  await holder.query('COMMIT');
  await storage.commits.appendAcks({ table: 0, deltas: [], receipts: [] });
});
