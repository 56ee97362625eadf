import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { day, hour, minute, RetentionScene } from './scene.ts';

/** Each test waits for many looks of the cleaner, which a busy machine delays. */
vi.setConfig({ testTimeout: 600_000 });

let scene: RetentionScene;
beforeEach(async () => {
  scene = await RetentionScene.open();
});
afterEach(() => scene.close());

const numbers = (from: number, until: number): number[] => Array.from({ length: until - from }, (_, n) => from + n);

test('the watermark never goes back, passes nothing that is owed, and an idle partition does not pin it', async () => {
  await scene.topic('orders', { partitions: 2 });
  for (const group of ['fast', 'slow']) await scene.subscribe(group, 'orders');
  await scene.publish('orders', 6);
  const shown: number[] = [];
  const look = async (allowed: number): Promise<void> => {
    await scene.looked('orders');
    const { watermark } = await scene.extent('orders');
    expect(watermark).toBeLessThanOrEqual(allowed);
    expect(watermark).toBeGreaterThanOrEqual(shown.at(-1) ?? 0);
    shown.push(watermark);
  };
  await look(0);
  for (const [fast, slow] of [
    [3, 0],
    [4, 2],
    [6, 3],
  ] as const) {
    await scene.commit('fast', 'orders', fast);
    if (slow > 0) await scene.commit('slow', 'orders', slow);
    await look(slow);
  }
  await scene.until('the watermark of what both have done', async () => (await scene.extent('orders')).watermark === 3);
  // Nothing was ever published there.
  expect((await scene.extent('orders', 1)).watermark).toBe(0);
  await scene.services.group.resetOffsets({
    group: 'slow',
    topics: ['orders'],
    partitions: [],
    to: { type: 'earliest' },
    force: false,
    dryRun: false,
  });
  await scene.looked('orders');
  expect((await scene.extent('orders')).watermark).toBe(3);
  await scene.takeOver();
  expect((await scene.extent('orders')).watermark).toBe(3);
});

test('complete records go after their retention and not a minute before, and what is owed stays', async () => {
  await scene.topic('orders');
  await scene.subscribe('billing', 'orders');
  const published = await scene.fill('orders', 3);
  await scene.looked('orders');
  const third = (await scene.storage('orders')).segments.items[2]!.firstOffsets[0]!.offset;
  await scene.commit('billing', 'orders', third);
  await scene.completed('orders', 2);
  scene.pass(hour - minute);
  await scene.looked('orders');
  expect(await scene.drops('orders')).toEqual([]);
  scene.pass(minute);
  await scene.until('two drops', async () => (await scene.drops('orders')).length === 2);
  const drops = await scene.drops('orders');
  expect(drops.map(({ segment, reason }) => [segment, reason])).toEqual([
    [1, 'COMPLETED'],
    [2, 'COMPLETED'],
  ]);
  const dropped = drops.flatMap(({ ranges }) => ranges.flatMap(({ first, last }) => numbers(first, last + 1)));
  expect(dropped).toEqual(numbers(0, third));
  scene.pass(10 * day);
  await scene.looked('orders');
  expect(await scene.drops('orders')).toHaveLength(2);
  expect(await scene.readable('orders')).toEqual(numbers(third, published));
  await scene.until('the end of their tables', async () => (await scene.tables('orders')).length === 2);
});

test('a cancelled subscription keeps nothing, and without any the records stay for their time', async () => {
  await scene.topic('orders', { retention: { keepUnsubscribedMs: hour } });
  await scene.subscribe('zombie', 'orders');
  const published = await scene.fill('orders', 2);
  scene.pass(2 * hour);
  await scene.looked('orders');
  expect(await scene.drops('orders')).toEqual([]);
  await scene.services.subscription.cancelSubscription('zombie', 'orders');
  await scene.until('two drops', async () => (await scene.drops('orders')).length === 2);
  expect((await scene.drops('orders')).map(({ reason }) => reason)).toEqual([
    'ZERO_SUBSCRIPTIONS',
    'ZERO_SUBSCRIPTIONS',
  ]);
  const { logStartOffset } = await scene.extent('orders');
  expect(await scene.readable('orders')).toEqual(numbers(logStartOffset, published));
});

test('a topic without subscriptions keeps its records for the set time, and then really deletes them', async () => {
  await scene.topic('orders', { retention: { keepUnsubscribedMs: hour } });
  await scene.fill('orders', 1);
  scene.pass(hour - minute);
  await scene.looked('orders');
  expect(await scene.drops('orders')).toEqual([]);
  scene.pass(minute);
  await scene.until('the drop', async () => (await scene.drops('orders'))[0]?.doneAtMs != null);
  expect(await scene.tables('orders')).toEqual([2]);
});

test('a topic that refuses publishes without subscriptions does so in Publish itself, and takes them with one', async () => {
  await scene.topic('orders', { retention: { keepUnsubscribedMs: null } });
  await expect(scene.publish('orders', 1)).rejects.toMatchObject({ reason: 'NO_SUBSCRIPTIONS' });
  expect((await scene.extent('orders')).highWatermark).toBe(0);
  await scene.subscribe('billing', 'orders');
  expect(await scene.publish('orders', 1)).toBe(0);
  await scene.takeOver();
  expect(await scene.publish('orders', 1)).toBe(1);
  await scene.services.subscription.cancelSubscription('billing', 'orders');
  await expect(scene.publish('orders', 1)).rejects.toMatchObject({ reason: 'NO_SUBSCRIPTIONS' });
  expect((await scene.extent('orders')).highWatermark).toBe(2);
});

test('appends and reads go on while a reader keeps a dropped table, and each drop has one row of the audit', async () => {
  await scene.topic('orders', { retention: { keepUnsubscribedMs: hour } });
  const published = await scene.fill('orders', 3);
  const [{ id }] = (await scene.query<{ id: number }>("SELECT id FROM millrace.topics WHERE name = 'orders'")) as [
    { id: number },
  ];
  const reader = await scene.session();
  await reader.query('BEGIN');
  await reader.query(`SELECT count(*) FROM millrace.record_batches_${id}`);
  scene.pass(hour);
  await scene.until('the plan of three drops', async () => (await scene.drops('orders')).length === 3);
  await scene.until('the session that keeps them', async () => {
    return (await scene.storage('orders')).keptBy.some(
      ({ reason, session }) => reason === 'SESSION' && session !== null,
    );
  });
  expect((await scene.drops('orders')).map(({ doneAtMs }) => doneAtMs)).toEqual([null, null, null]);
  const more = await scene.fill('orders', 1);
  const { logStartOffset } = await scene.extent('orders');
  expect(await scene.readable('orders')).toEqual(numbers(logStartOffset, published + more));
  await reader.query('COMMIT');
  await scene.until('the end of all drops', async () =>
    (await scene.drops('orders')).every(({ doneAtMs }) => doneAtMs !== null),
  );
  const drops = await scene.drops('orders');
  expect(drops.map(({ segment }) => segment)).toEqual([1, 2, 3]);
  expect(await scene.tables('orders')).toEqual([4, 5]);
});

test('fault 1: a late group that acks everything completes no record for a group that is owed it', async () => {
  await scene.topic('orders');
  await scene.subscribe('early', 'orders');
  const published = await scene.fill('orders', 2);
  await scene.subscribe('late', 'orders', 'latest');
  await scene.subscribe('greedy', 'orders');
  await scene.commit('greedy', 'orders', published);
  scene.pass(10 * day);
  await scene.looked('orders');
  const { segments, keptBy } = await scene.storage('orders');
  expect(segments.items.map(({ completedAtMs }) => completedAtMs)).toEqual([null, null, null]);
  expect(keptBy.find(({ reason }) => reason === 'SUBSCRIPTION')).toMatchObject({
    subscription: { group: 'early', state: 'ACTIVE' },
    segments: 2,
  });
  expect(await scene.drops('orders')).toEqual([]);
  expect((await scene.extent('orders')).watermark).toBe(0);
  expect(await scene.readable('orders')).toEqual(numbers(0, published));
});

test('fault 10: a partition without a single ack is owed in full, also one that the topic got later', async () => {
  await scene.topic('orders');
  await scene.subscribe('billing', 'orders');
  const before = await scene.fill('orders', 1);
  await scene.services.topic.addPartitions({ name: 'orders', partitions: 2 });
  const added = await scene.fill('orders', 2, 1);
  await scene.commit('billing', 'orders', before);
  // A cursor of which the database has no row has done nothing.
  await scene.query('DELETE FROM millrace.cursors WHERE partition = 1');
  await scene.completed('orders', 1);
  scene.pass(10 * day);
  await scene.until('its drop', async () => (await scene.drops('orders')).length === 1);
  await scene.looked('orders');
  expect((await scene.drops('orders')).map(({ segment }) => segment)).toEqual([1]);
  expect(await scene.readable('orders', 1)).toEqual(numbers(0, added));
});

test('a reset into the past takes the mark of completion away, and what is owed anew stays', async () => {
  await scene.topic('orders');
  await scene.subscribe('billing', 'orders');
  const published = await scene.fill('orders', 2);
  await scene.looked('orders');
  const second = (await scene.storage('orders')).segments.items[1]!.firstOffsets[0]!.offset;
  await scene.commit('billing', 'orders', published);
  await scene.completed('orders', 2);
  const to = { type: 'offset', offset: second } as const;
  await scene.services.group.resetOffsets({
    group: 'billing',
    topics: [],
    partitions: [],
    to,
    force: false,
    dryRun: false,
  });
  scene.pass(10 * day);
  await scene.until('the drop of the first', async () => (await scene.drops('orders')).length === 1);
  await scene.looked('orders');
  expect((await scene.drops('orders')).map(({ segment }) => segment)).toEqual([1]);
  expect(await scene.readable('orders')).toEqual(numbers(second, published));
  // What is gone cannot be owed again: the reset begins at the first stored record.
  const [reset] = await scene.services.group.resetOffsets({
    group: 'billing',
    topics: [],
    partitions: [],
    to: { type: 'offset', offset: 0 },
    force: false,
    dryRun: false,
  });
  expect(reset).toMatchObject({ offset: second });
});

test('the stalled group of one topic does not keep the space of another', async () => {
  await scene.topic('stalled');
  await scene.topic('busy');
  for (const topic of ['stalled', 'busy']) await scene.subscribe('billing', topic);
  await scene.fill('stalled', 2);
  const published = await scene.fill('busy', 2);
  await scene.commit('billing', 'busy', published);
  await scene.completed('busy', 2);
  scene.pass(hour);
  await scene.until('the end of the drops', async () => {
    const drops = await scene.drops('busy');
    return drops.length === 2 && drops.every(({ doneAtMs }) => doneAtMs !== null);
  });
  expect(await scene.drops('stalled')).toEqual([]);
  const { keptBy } = await scene.storage('stalled');
  const [first] = keptBy.filter(({ reason }) => reason === 'SUBSCRIPTION');
  expect(first).toMatchObject({ subscription: { group: 'billing', state: 'ACTIVE' }, segments: 2 });
});

test('cleanup keeps up with publishes beside a session that holds an old snapshot, and leaves few dead rows', async () => {
  await scene.topic('orders', { retention: { keepUnsubscribedMs: minute } });
  const old = await scene.session();
  await old.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await old.query('SELECT pg_current_xact_id()');
  const before = await deadRows(scene);
  let published = 0;
  for (let round = 0; round < 10; round += 1) {
    published += await scene.fill('orders', 1);
    scene.pass(minute);
    await scene.until('the drop of all that is sealed', async () => {
      const drops = await scene.drops('orders');
      return drops.length === round + 1 && drops.every(({ doneAtMs }) => doneAtMs !== null);
    });
    expect(await scene.tables('orders')).toEqual([round + 2]);
  }
  const { logStartOffset, highWatermark } = await scene.extent('orders');
  expect([await scene.readable('orders'), highWatermark]).toEqual([numbers(logStartOffset, published), published]);
  await old.query('COMMIT');
  // A roll and a drop update a handful of rows of small tables, however many records they have.
  expect((await deadRows(scene)) - before).toBeLessThan(10 * 30);
});

async function deadRows(of: RetentionScene): Promise<number> {
  await of.query('SELECT pg_stat_force_next_flush()').catch(() => []);
  const [row] = await of.query<{ n: number }>(
    "SELECT coalesce(sum(n_dead_tup), 0)::float8 AS n FROM pg_stat_user_tables WHERE schemaname = 'millrace'",
  );
  return row!.n;
}
