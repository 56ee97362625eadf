import type { Client } from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PlannedDrop } from '../../../src/lifecycle/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { batch, readAll, roll, transaction, values } from '../../log/records.ts';
import { dropAll, takeStep } from '../../support/retention/drop-all.ts';
import { LogSite } from '../log/log-site.ts';

/** The steps by which tables go, beside sessions that hold them. */

let site: LogSite;
let storage: Storage;
/** A topic whose segment 1 is planned to go. */
let topic: TopicRow;
let drop: PlannedDrop;

beforeAll(async () => {
  site = await LogSite.open();
  storage = await site.own('one', 1);
});

afterAll(() => site.close());

beforeEach(async () => {
  topic = await site.topic(storage, 1);
  await append(1, 'a');
  await roll(storage, topic.id, 1);
  await append(2, 'b');
  drop = await plan();
});

const append = (segment: number, ...texts: string[]) =>
  storage.commits.append(0, transaction([batch({ ...topic, segment }, 0, values(...texts))]));

/** Plans the drop of the oldest segment. */
async function plan(): Promise<PlannedDrop> {
  const facts = (await storage.retention.facts(topic.id))!;
  const segment = facts.sealed[0]!.segment;
  await storage.retention.plan({ facts, drop: [{ segment, reason: 'COMPLETED' }], complete: [] });
  return { topicId: topic.id, topicName: topic.name, segment };
}

const parent = (): string => `millrace.record_batches_${topic.id}`;
const leaf = (): string => `${parent()}_1`;

async function pidOf(session: Client): Promise<number> {
  const { rows } = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]!.pid;
}

/** A session that reads a table in a transaction and stays. */
async function readerOf(table: string): Promise<Client> {
  const reader = await site.session();
  await reader.query("SET application_name = 'a report'");
  await reader.query('BEGIN');
  await reader.query(`LOCK TABLE ONLY ${table} IN ACCESS SHARE MODE`);
  return reader;
}

const isWaiting =
  "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%DETACH%CONCURRENTLY' AND wait_event_type = 'Lock'";

/** Ends the detach. The server may show it for a moment after its client has the answer. */
async function endDetach(detached: Promise<void>): Promise<void> {
  const { detachingPid } = await storage.retention.table(drop);
  await storage.retention.cancelDetach(detachingPid!);
  await detached;
  while ((await storage.retention.table(drop)).detaching !== null);
}

describe('a reader of the parent', () => {
  test('a detach waits for a reader of the parent and names it, and the log rolls and takes appends meanwhile', async () => {
    const reader = await readerOf(parent());
    const detached = storage.retention.detach(drop);
    await site.until(isWaiting);
    const table = await storage.retention.table(drop);
    expect(table).toMatchObject({ exists: true, attached: 'PENDING', detaching: { waitsFor: 'PARENT' } });
    expect(table.blockers).toEqual([
      expect.objectContaining({ pid: await pidOf(reader), applicationName: 'a report', state: 'idle in transaction' }),
    ]);
    expect(table.blockers[0]!.transactionAgeMs).toBeGreaterThan(0);
    expect(await roll(storage, topic.id, 2)).toBe(3);
    await append(3, 'c');
    await reader.query('COMMIT');
    await detached;
    await dropAll(storage.retention);
    expect(await storage.retention.pendingDrops()).toEqual([]);
    expect((await readAll(storage, { ...topic, segment: 3 }, 0, 1)).map(({ parts }) => parts[2])).toEqual(['b', 'c']);
  });

  test('a detach whose session is ended stays pending, and the table is dropped once nobody holds it', async () => {
    const reader = await readerOf(parent());
    const detached = storage.retention.detach(drop);
    await site.until(isWaiting);
    await endDetach(detached);
    expect(await storage.retention.table(drop)).toMatchObject({ attached: 'PENDING', detaching: null });
    // The table is not taken while the reader may meet it, and nothing waits behind the reader.
    expect(await takeStep(storage.retention, drop)).toBe(false);
    await storage.retention.drop(drop, 100);
    expect((await storage.retention.table(drop)).exists).toBe(true);
    await reader.query('COMMIT');
    await dropAll(storage.retention);
    expect((await storage.retention.table(drop)).exists).toBe(false);
  });

  test('a pending table blocks the other detaches of its topic until it is gone, and no detach of other topics', async () => {
    await roll(storage, topic.id, 2);
    const second = await plan();
    const reader = await readerOf(parent());
    const detached = storage.retention.detach(drop);
    await site.until(isWaiting);
    await endDetach(detached);
    await storage.retention.detach(second);
    expect(await storage.retention.table(second)).toMatchObject({ attached: 'YES' });
    topic = await site.topic(storage, 1);
    await append(1, 'x');
    await roll(storage, topic.id, 1);
    const other = await plan();
    await storage.retention.detach(other);
    expect(await storage.retention.table(other)).toMatchObject({ attached: 'NO' });
    await reader.query('COMMIT');
    await dropAll(storage.retention);
    expect(await storage.retention.pendingDrops()).toEqual([]);
  });

  test('a detach goes on in the server after its broker has stopped, and the next look finds it', async () => {
    const reader = await readerOf(parent());
    const detached = storage.retention.detach(drop);
    const failed = expect(detached).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    await site.until(isWaiting);
    storage.retention.stop();
    await failed;
    const other = site.storage('one', 1);
    expect(await other.retention.table(drop)).toMatchObject({ attached: 'PENDING', detaching: { waitsFor: 'PARENT' } });
    expect(await takeStep(other.retention, drop)).toBe(false);
    await reader.query('COMMIT');
    await site.until(`SELECT count(*) AS n FROM pg_class WHERE relname = $1 AND NOT relispartition`, [
      leaf().replace('millrace.', ''),
    ]);
    await dropAll(other.retention);
    expect((await other.retention.table(drop)).exists).toBe(false);
  });

  test('the last resort gives up after its limit beside an older snapshot, and finishes without one', async () => {
    const reader = await readerOf(parent());
    const detached = storage.retention.detach(drop);
    await site.until(isWaiting);
    await storage.retention.cancelDetach((await storage.retention.table(drop)).detachingPid!);
    await detached;
    await reader.query('COMMIT');
    await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await reader.query('SELECT count(*) FROM millrace.topics');
    await storage.retention.finalize(drop, 100);
    expect(await storage.retention.table(drop)).toMatchObject({ attached: 'PENDING' });
    await reader.query('COMMIT');
    await storage.retention.finalize(drop, 5_000);
    expect(await storage.retention.table(drop)).toMatchObject({ attached: 'NO' });
    await dropAll(storage.retention);
  });
});

describe('a reader of the table itself', () => {
  test('a table that is read is not detached, because its detach would block the next segment', async () => {
    const reader = await readerOf(leaf());
    const table = await storage.retention.table(drop);
    expect(table).toMatchObject({ attached: 'YES', tableLockers: 1, parentLockers: 0, detaching: null });
    expect(table.blockers.map(({ pid }) => pid)).toEqual([await pidOf(reader)]);
    expect(await takeStep(storage.retention, drop)).toBe(false);
    expect(await roll(storage, topic.id, 2)).toBe(3);
    await reader.query('COMMIT');
    await dropAll(storage.retention);
    expect((await storage.retention.table(drop)).exists).toBe(false);
  });

  test('a detach that waits for its table says so, and ends by a cancel, so that a segment can be made', async () => {
    const [ofParent, ofLeaf] = [await readerOf(parent()), await site.session()];
    const detached = storage.retention.detach(drop);
    await site.until(isWaiting);
    await ofLeaf.query('BEGIN');
    await ofLeaf.query(`LOCK TABLE ${leaf()} IN ACCESS SHARE MODE`);
    await ofParent.query('COMMIT');
    const isAtLeaf = `${isWaiting} AND wait_event = 'relation'`;
    await site.until(isAtLeaf);
    const table = await storage.retention.table(drop);
    expect(table.detaching?.waitsFor).toBe('TABLE');
    await expect(storage.log.makeSegment(topic.id, 2)).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    await storage.retention.cancelDetach(table.detachingPid!);
    await detached;
    expect(await roll(storage, topic.id, 2)).toBe(3);
    await ofLeaf.query('COMMIT');
    await dropAll(storage.retention);
    expect((await storage.retention.table(drop)).exists).toBe(false);
  });
});

describe('two that drop the same', () => {
  test('two brokers that detach and drop the same table meet no error, and it is gone once', async () => {
    const other = site.storage('one', 1);
    await Promise.all([storage.retention.detach(drop), other.retention.detach(drop)]);
    await dropAll(storage.retention);
    await Promise.all([storage.retention.drop(drop, 2_000), other.retention.drop(drop, 2_000)]);
    expect((await storage.retention.table(drop)).exists).toBe(false);
  });
});

test('a plan waits for the topic only shortly, because a roll and its publishes would wait behind it', async () => {
  await roll(storage, topic.id, 2);
  const facts = (await storage.retention.facts(topic.id))!;
  const other = await site.session();
  await other.query('BEGIN');
  await other.query('SELECT 1 FROM millrace.topics WHERE id = $1 FOR KEY SHARE', [topic.id]);
  const wanted = { facts, drop: [{ segment: 2, reason: 'COMPLETED' as const }], complete: [] };
  expect(await storage.retention.plan(wanted)).toBe('BUSY');
  await other.query('COMMIT');
  expect(await storage.retention.plan(wanted)).toMatchObject({ dropped: [{ segment: 2 }] });
  await dropAll(storage.retention);
});
