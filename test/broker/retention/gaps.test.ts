import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Consumer } from '../life/consumer.ts';
import { Reader } from './reader.ts';
import { hour, minute, RetentionScene } from './scene.ts';

// Each wait of a scene ends by itself before that.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 60_000 });

let scene: RetentionScene;
beforeEach(async () => {
  scene = await RetentionScene.open();
});
afterEach(() => scene.close());

const numbers = (from: number, until: number): number[] => Array.from({ length: until - from }, (_, n) => from + n);
const gapOf = (first: number, last: number, reason: string) => {
  return { topic: 'orders', partition: 0, lane: 0, first, last, reason };
};

/** The cap takes everything but the current segment. @returns where the log begins then. */
async function capped(): Promise<number> {
  const sealed = (await scene.segment('orders')) - 1;
  scene.pass(hour);
  await scene.until('the drops', async () => (await scene.drops('orders')).length === sealed);
  return (await scene.extent('orders')).logStartOffset;
}

test('a member with a full window gets the gap and the next record, and its late ack is answered as acked', async () => {
  await scene.topic('orders', { retention: { maxAgeMs: hour } });
  await scene.subscribe('slow', 'orders');
  const published = await scene.fill('orders', 2);
  const reader = await Reader.open(scene.services, 'slow', 'orders');
  await scene.until('the first record', () => reader.received.length === 1);
  const start = await capped();
  expect(start).toBeLessThan(published);
  await scene.until('the record behind the gap', () => reader.received.length === 3);
  expect(reader.received).toEqual([0, gapOf(0, start - 1, 'MAX_AGE'), start]);
  expect(scene.counts.gapRecords).toBe(start);
  expect([await reader.ack(0), await reader.ack(start), await reader.ack(start)]).toEqual([
    'ALREADY_ACKED',
    'OK',
    'ALREADY_ACKED',
  ]);
});

test('answers of pulls name the gap until a record behind it is acked, also those of the next owner', async () => {
  await scene.topic('orders', { retention: { maxAgeMs: hour } });
  for (const group of ['slow', 'fast']) await scene.subscribe(group, 'orders');
  const published = await scene.fill('orders', 2);
  await scene.commit('fast', 'orders', published);
  const start = await capped();
  const gaps = [gapOf(0, start - 1, 'MAX_AGE')];
  const slow = new Consumer(() => scene.services, 'slow', 'orders');
  const before = await slow.read(1);
  expect([before.offsets, slow.gaps]).toEqual([[start], gaps]);
  expect(await scene.query('SELECT first_offset::int, last_offset::int, reason FROM millrace.cursor_gaps')).toEqual([
    { first_offset: 0, last_offset: start - 1, reason: 'MAX_AGE' },
  ]);
  await scene.takeOver();
  const after = await slow.read(1);
  expect([after.offsets, slow.gaps]).toEqual([[start], gaps]);
  expect(await after.ack()).toBe('OK');
  expect([await slow.readAll(), slow.gaps]).toEqual([numbers(start + 1, published), []]);
  await scene.takeOver();
  await slow.read(1);
  const fast = new Consumer(() => scene.services, 'fast', 'orders');
  expect([await fast.readAll(), fast.gaps, slow.gaps]).toEqual([[], [], []]);
});

test('a DEAD subscription whose excused time is over gets the gap first when it returns', async () => {
  await scene.topic('orders');
  await scene.subscribe('zombie', 'orders');
  await scene.fill('orders', 2);
  const zombie = new Consumer(() => scene.services, 'zombie', 'orders');
  expect(await zombie.readAll(1)).toEqual([0]);
  await zombie.leave();
  const state = async () => {
    const page = { size: 1, token: '' };
    return (await scene.services.subscription.getSubscription('zombie', 'orders', page)).subscription.state;
  };
  scene.pass(4 * minute);
  await scene.until('the death', async () => (await state()) === 'DEAD');
  await scene.completed('orders', 2);
  scene.pass(2 * hour);
  await scene.until('two drops', async () => (await scene.drops('orders')).length === 2);
  await scene.takeOver();
  const start = (await scene.extent('orders')).logStartOffset;
  const reader = await Reader.open(scene.services, 'zombie', 'orders');
  await scene.until('a record', () => reader.received.length === 2);
  expect(reader.received).toEqual([gapOf(1, start - 1, 'RETENTION'), start]);
  expect(await state()).toBe('ACTIVE');
});

test('a cap of one topic takes nothing of another that the same stalled group is owed', async () => {
  await scene.topic('orders', { retention: { maxAgeMs: hour } });
  await scene.topic('letters');
  for (const topic of ['orders', 'letters']) await scene.subscribe('stalled', topic);
  await scene.fill('orders', 1);
  const letters = await scene.fill('letters', 1);
  const start = await capped();
  await scene.until('the jump', () => scene.counts.gapRecords === start);
  await scene.looked('letters');
  expect(await scene.drops('letters')).toEqual([]);
  expect(await scene.readable('letters')).toEqual(numbers(0, letters));
  const reader = await Reader.open(scene.services, 'stalled', 'letters');
  await scene.until('a record', () => reader.received.length > 0);
  expect(reader.received).toEqual([0]);
});
