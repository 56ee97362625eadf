import { isDeepStrictEqual } from 'node:util';
import type { Client } from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { CursorDelta, CursorSnapshot } from '../../../src/consumption/partitioned/cursor.ts';
import type { CursorKey, StoredCursor } from '../../../src/delivery/ports/store.ts';
import { startsAt } from '../../support/starts.ts';
import { GroupSite, type SiteStorage } from '../groups/group-site.ts';
import { allCursors } from '../../conformance/loads.ts';
import { cancelIn, createIn } from '../../support/groups/group-writes.ts';

let site: GroupSite;
let store: SiteStorage;
/** The keys of three cursors at offset 10. */
let keys: CursorKey[];

beforeAll(async () => {
  site = await GroupSite.open();
});

afterAll(() => site.close());

let epoch = 0;

beforeEach(async () => {
  await site.client.query(
    'TRUNCATE millrace.consumer_groups, millrace.ack_log_0, millrace.ack_log_1, millrace.ack_log_2 CASCADE',
  );
  await takeOver();
  await store.readAckLog();
  const groupId = await store.createGroup('billing');
  const [subscription] = await createIn(store, [{ groupId, topicId: 1, offsets: startsAt([10, 10, 10]) }]);
  keys = [0, 1, 2].map((partition) => ({ subscriptionId: subscription!.id, partition, lane: 0 }));
});

/** Makes a new owner, which has not read the ack log yet. */
async function takeOver(): Promise<void> {
  epoch += 1;
  store = await site.own(`broker-${epoch}`, epoch);
}

function delta(
  committedOffset: number,
  acked: number[] = [],
  attempts: number[] = [],
  more: Partial<CursorDelta> = {},
): CursorDelta {
  return { resets: 0, committedOffset, acked, attempts, metadata: null, ...more };
}

async function append(...deltas: CursorDelta[]): Promise<void> {
  await store.appendRound({ deltas: deltas.map((one, at) => ({ key: keys[at]!, delta: one })) });
}

async function fold(...cursors: CursorSnapshot[]): Promise<void> {
  await store.foldAll(() => cursors.map((cursor, at) => ({ key: keys[at]!, cursor })));
}

async function loaded(): Promise<CursorSnapshot[]> {
  const stored = await allCursors(store);
  return stored.sort((a, b) => a.key.partition - b.key.partition).map(({ cursor }) => cursor);
}

async function rounds(): Promise<number[]> {
  const counts = [];
  for (const table of [0, 1, 2]) counts.push(await site.count(`ack_log_${table}`));
  return counts;
}

const start = delta(10);

describe('the ack log', () => {
  test('rounds of deleted cursors change nothing', async () => {
    await append(delta(20), delta(21), delta(22));
    const [{ subscriptionId }] = keys as [CursorKey];
    await cancelIn(store, subscriptionId);
    expect(await loaded()).toEqual([]);
    await site.client.query('DELETE FROM millrace.subscriptions');
    expect(await loaded()).toEqual([]);
    await fold(delta(20), delta(21));
    expect(await site.count('cursors')).toBe(0);
  });
});

describe('a fold', () => {
  test('a fold of large notes is written in pieces, its own and those of its predecessor, so that none takes all', async () => {
    const noted = (text: string) => delta(11, [], [], { metadata: { seq: 1, text: text.repeat(2_200_000) } });
    let pieces = 0;
    const mayGoOn = (): boolean => ++pieces > 0;
    const cursors = ['a', 'b', 'c'].map(noted);
    await store.foldAll(() => cursors.map((cursor, at) => ({ key: keys[at]!, cursor })), mayGoOn);
    expect(pieces).toBe(1);
    await append(...['a', 'b', 'c'].map((text) => ({ ...noted(text), committedOffset: 12 })));
    await takeOver();
    await store.readAckLog();
    await store.foldAll(() => [], mayGoOn);
    expect(pieces).toBe(2);
    expect((await loaded()).map(({ committedOffset, metadata }) => [committedOffset, metadata?.text.length])).toEqual(
      [12, 12, 12].map((offset) => [offset, 2_200_000]),
    );
  });

  test('folds write the cursors and empty their tables, all the way round the ring', async () => {
    for (let n = 1; n <= 4; n += 1) {
      await append(delta(10 + n, [100, 100 + n], [50, 50, n]));
      expect((await rounds()).reduce((sum, count) => sum + count)).toBe(1);
      await fold(delta(10 + n, [100, 100 + n], [50, 50, n]));
      expect(await rounds()).toEqual([0, 0, 0]);
    }
    await takeOver();
    expect(await loaded()).toEqual([delta(14, [100, 104], [50, 50, 4]), start, start]);
  });

  test('a fold sends later rounds to the next table before it takes the state', async () => {
    await append(delta(11));
    let late = Promise.resolve();
    await store.foldAll(() => {
      // The snapshots lack an ack that comes during the fold.
      late = append(delta(12, [20, 20]));
      return [{ key: keys[0]!, cursor: delta(11) }];
    });
    await late;
    expect(await rounds()).toEqual([0, 1, 0]);
    await takeOver();
    expect((await loaded())[0]).toEqual(delta(12, [20, 20]));
  });

  test('a fold that fails loses nothing, and the next fold writes its cursors', async () => {
    await append(delta(11, [20, 20]));
    const session = await site.session();
    await terminateFolds(session, async () => {
      await expect(fold(delta(11, [20, 20]))).rejects.toMatchObject({ name: 'Fault' });
    });
    expect(await rounds()).toEqual([1, 0, 0]);
    await append(delta(12));
    expect((await loaded())[0]).toEqual(delta(12, [20, 20]));
    await fold(delta(12, [20, 20]));
    expect((await rounds()).reduce((sum, count) => sum + count)).toBe(0);
    await takeOver();
    expect((await loaded())[0]).toEqual(delta(12, [20, 20]));
  });

  test('a fold that ends between the cursors and the truncation loses nothing', async () => {
    await append(delta(11, [20, 21]), delta(15));
    const session = await site.session();
    // The truncation fails because of a reader of the table, which has the effect of a crash.
    await session.query('BEGIN');
    await session.query('SELECT 1 FROM millrace.ack_log_0');
    await fold(delta(11, [20, 21]), delta(15));
    expect(await rounds()).toEqual([1, 0, 0]);
    await append(delta(16));
    await takeOver();
    expect(await loaded()).toEqual([delta(16, [20, 21]), delta(15), start]);
    await session.query('COMMIT');
    // The new owner begins with the first table, and uses the second after its first fold.
    for (const left of [1, 0]) {
      await fold();
      expect(await rounds()).toEqual([0, left, 0]);
    }
    await takeOver();
    expect(await loaded()).toEqual([delta(16, [20, 21]), delta(15), start]);
  });

  test('a fold of several transactions loses no round between them, and nothing if it fails there', async () => {
    const count = 5_001;
    const groupId = await store.createGroup('wide');
    const offsets = Array.from({ length: count }, () => 10);
    const [subscription] = await createIn(store, [{ groupId, topicId: 2, offsets: startsAt(offsets) }]);
    const wide = offsets.map((_, partition) => ({ subscriptionId: subscription!.id, partition, lane: 0 }));
    const round = (offset: number) => store.appendRound({ deltas: wide.map((key) => ({ key, delta: delta(offset) })) });
    const committed = async (): Promise<Set<number>> => {
      const stored = await allCursors(store);
      return new Set(
        stored.filter(({ key }) => key.subscriptionId === subscription!.id).map((one) => one.cursor.committedOffset),
      );
    };
    await round(11);
    let now = 11;
    let between = Promise.resolve();
    function* snapshots(breaks: boolean): Generator<StoredCursor> {
      for (const [at, key] of wide.entries()) {
        if (at === count - 1) {
          if (breaks) throw new Error('the last piece is not written');
          between = round(++now);
        }
        yield { key, cursor: delta(now) };
      }
    }
    await expect(store.foldAll(() => snapshots(true))).rejects.toThrow('the last piece');
    expect(await rounds()).toEqual([1, 0, 0]);
    expect(await committed()).toEqual(new Set([11]));
    await store.foldAll(() => snapshots(false));
    await between;
    expect(await rounds()).toEqual([0, 0, 1]);
    await takeOver();
    expect(await committed()).toEqual(new Set([12]));
  });

  test('a fold of 50,000 cursors that a shutdown cuts leaves the rest in the log, and the successor loses nothing', async () => {
    const count = 50_000;
    const groupId = await store.createGroup('wide');
    const offsets = Array.from({ length: count }, () => 10);
    const [subscription] = await createIn(store, [{ groupId, topicId: 2, offsets: startsAt(offsets) }]);
    const wide = offsets.map((_, partition) => ({ subscriptionId: subscription!.id, partition, lane: 0 }));
    const acked = ({ partition }: CursorKey) => delta(11 + (partition % 7), partition % 5 === 0 ? [30, 31] : []);
    for (let from = 0; from < count; from += 10_000) {
      const some = wide.slice(from, from + 10_000);
      await store.appendRound({ deltas: some.map((key) => ({ key, delta: acked(key) })) });
    }
    let pieces = 0;
    const snapshots = () => wide.map((key) => ({ key, cursor: acked(key) }));
    expect(await store.foldAll(snapshots, () => ++pieces < 3)).toBe('CUT');
    const inTable =
      'SELECT count(*)::int AS n FROM millrace.cursors WHERE subscription_id = $1 AND committed_offset > 10';
    const written = await site.client.query<{ n: number }>(inTable, [subscription!.id]);
    expect(written.rows[0]!.n).toBe(15_000);
    expect((await rounds()).reduce((sum, n) => sum + n)).toBe(5);
    const nothingLost = async (): Promise<void> => {
      const stored = (await allCursors(store)).filter(({ key }) => key.subscriptionId === subscription!.id);
      expect(stored.length).toBe(count);
      expect(stored.filter(({ key, cursor }) => !isDeepStrictEqual(cursor, acked(key)))).toEqual([]);
    };
    await takeOver();
    expect(await store.readAckLog()).toMatchObject({ cursors: count, rounds: 5 });
    await nothingLost();
    // No cursor has changed, so the fold writes the cursors that the ack log had.
    expect(await store.foldAll(() => [])).toBe('EMPTIED');
    expect(await rounds()).toEqual([0, 0, 0]);
    await takeOver();
    expect(await store.readAckLog()).toMatchObject({ cursors: 0, rounds: 0 });
    await nothingLost();
  });

  test('a fold reports a table with rows, so that an idle broker empties its log too', async () => {
    // The round goes into the table that the next owner uses first.
    await append(delta(11));
    await fold(delta(11));
    await append(delta(12));
    await takeOver();
    await loaded();
    expect(await store.foldAll(() => [])).toBe('KEPT');
    expect(await store.foldAll(() => [])).toBe('EMPTIED');
    expect(await rounds()).toEqual([0, 0, 0]);
    const session = await site.session();
    await append(delta(13));
    await session.query('BEGIN');
    await session.query('SELECT 1 FROM millrace.ack_log_0, millrace.ack_log_1, millrace.ack_log_2');
    expect(await store.foldAll(() => [{ key: keys[0]!, cursor: delta(13) }])).toBe('KEPT');
    await session.query('COMMIT');
    expect(await store.foldAll(() => [])).toBe('EMPTIED');
  });

  test('a foreign transaction delays the truncation of its table only until it ends', async () => {
    const session = await site.session();
    await append(delta(11));
    await session.query('BEGIN');
    await session.query('SELECT 1 FROM millrace.ack_log_0');
    for (let n = 12; n < 18; n += 1) {
      await append(delta(n));
      await fold(delta(n));
    }
    const held = await rounds();
    expect(held[0]).toBeGreaterThan(0);
    expect([held[1], held[2]]).toEqual([0, 0]);
    await session.query('COMMIT');
    await fold();
    await fold();
    expect(await rounds()).toEqual([0, 0, 0]);
    expect((await loaded())[0]).toEqual(delta(17));
  });

  test('a fold truncates its table despite an old snapshot of another session', async () => {
    const session = await site.session();
    await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await session.query('SELECT txid_current()');
    await append(delta(11));
    await fold(delta(11));
    expect(await rounds()).toEqual([0, 0, 0]);
    await session.query('ROLLBACK');
  });
});

test('a round whose connection breaks has an unknown outcome, and its repeat is harmless', async () => {
  await append(delta(11));
  const session = await site.session();
  await session.query('BEGIN');
  await session.query('LOCK millrace.ack_log_0 IN ACCESS EXCLUSIVE MODE');
  const round = append(delta(12));
  const fate = expect(round).rejects.toMatchObject({ kind: 'OUTCOME_UNKNOWN' });
  await vi.waitFor(async () => {
    expect(await terminated(site.client, 'acks')).toBe(1);
  });
  await fate;
  await session.query('ROLLBACK');
  await append(delta(12));
  expect((await loaded())[0]).toEqual(delta(12));
});

/** Ends the sessions of the present owner that wait for a lock. @returns their number. */
async function terminated(by: Client, purpose: string): Promise<number> {
  const { rowCount } = await by.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = $1`,
    [`millrace/broker-${epoch}/${purpose}`],
  );
  return rowCount ?? 0;
}

/** Blocks the fold of `work` at the cursors, and ends its session there. */
async function terminateFolds(session: Client, work: () => Promise<void>): Promise<void> {
  await session.query('BEGIN');
  await session.query('SELECT 1 FROM millrace.cursors FOR UPDATE');
  const done = work();
  await vi.waitFor(async () => {
    expect(await terminated(site.client, 'folds')).toBe(1);
  });
  await done;
  await session.query('ROLLBACK');
}

test('a round of 384 cursors takes less than 50 ms', async () => {
  await site.client.query(`
    INSERT INTO millrace.consumer_groups (name) SELECT 'g' || n FROM generate_series(1, 64) AS n;
    INSERT INTO millrace.subscriptions (group_id, topic_id) SELECT id, 2 FROM millrace.consumer_groups WHERE name LIKE 'g%';
    INSERT INTO millrace.cursors SELECT s.id, n - 1, 0, 0 FROM millrace.subscriptions AS s, generate_series(1, 6) AS n
     WHERE topic_id = 2`);
  const stored = await allCursors(store);
  const all = stored.map(({ key }) => key).filter(({ subscriptionId }) => subscriptionId !== keys[0]!.subscriptionId);
  const round = (n: number) => ({
    deltas: all.map((key) => ({ key, delta: delta(n * 100 + ((key.subscriptionId * 7 + key.partition * 13) % 97)) })),
  });
  const snapshots = (n: number) => () =>
    all.map((key) => ({ key, cursor: delta(n * 100, [n * 100 + 5, n * 100 + 9]) }));
  for (let n = 0; n < 50; n += 1) await store.appendRound(round(n));
  await store.foldAll(snapshots(50));
  const costs: number[] = [];
  const walBefore = await walBytes();
  for (let n = 51; n < 251; n += 1) {
    const began = performance.now();
    await store.appendRound(round(n));
    costs.push(performance.now() - began);
  }
  const wal = (await walBytes()) - walBefore;
  const began = performance.now();
  await store.foldAll(snapshots(251));
  const foldMs = performance.now() - began;
  costs.sort((a, b) => a - b);
  console.log(
    `ack round of ${all.length} cursors: p50 ${costs[100]!.toFixed(2)} ms, p99 ${costs[198]!.toFixed(2)} ms, ` +
      `${Math.round(wal / 200 / all.length)} bytes of WAL a cursor; fold of them ${foldMs.toFixed(1)} ms`,
  );
  expect(costs[100]).toBeLessThan(50);
});

async function walBytes(): Promise<number> {
  const { rows } = await site.client.query<{ n: string }>(`SELECT pg_current_wal_lsn() - '0/0' AS n`);
  return Number(rows[0]!.n);
}

test('30,000 cursors are folded and reset in seconds, although the statistics are from an empty table', async () => {
  const count = 30_000;
  const groupId = await store.createGroup('large');
  const offsets = Array.from({ length: count }, () => 0);
  const subscribe = async () => (await createIn(store, [{ groupId, topicId: 2, offsets: startsAt(offsets) }]))[0]!.id;
  // The table has pages, but no rows.
  await cancelIn(store, await subscribe());
  await cancelIn(store, keys[0]!.subscriptionId);
  await site.client.query('DELETE FROM millrace.subscriptions');
  await site.client.query('ANALYZE millrace.cursors');
  const subscriptionId = await subscribe();
  const all = offsets.map((_, partition) => ({ subscriptionId, partition, lane: 0 }));
  await store.foldAll(() => all.map((key) => ({ key, cursor: delta(5) })));
  await store.foldAll(() => all.map((key) => ({ key, cursor: delta(6, [8, 9]) })));
  await store.resetCursors(all.map((key) => ({ key, offset: 3, resets: 1 })));
  const { rows } = await site.client.query(
    'SELECT committed_offset::integer AS at, resets, count(*)::integer FROM millrace.cursors GROUP BY 1, 2',
  );
  expect(rows).toEqual([{ at: 3, resets: 1, count }]);
}, 20_000);
