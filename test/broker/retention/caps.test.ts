import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Consumer } from '../life/consumer.ts';
import { Reader } from './reader.ts';
import { day, hour, minute, RetentionScene } from './scene.ts';

// Each wait of a scene ends by itself before that.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 60_000 });

let scene: RetentionScene;
beforeEach(async () => {
  scene = await RetentionScene.open();
});
afterEach(() => scene.close());

const numbers = (from: number, until: number): number[] => Array.from({ length: until - from }, (_, n) => from + n);
const consumer = (group: string): Consumer => new Consumer(() => scene.services, group, 'orders');
const gapOf = (first: number, last: number, reason: string) => {
  return { topic: 'orders', partition: 0, lane: 0, first, last, reason };
};

/** The bytes of all segments, and of all but the oldest one. */
async function stored(): Promise<number[]> {
  const sizes = (await scene.storage('orders')).segments.items.map(({ bytes }) => bytes);
  const sum = (some: readonly number[]): number => some.reduce((a, b) => a + b, 0);
  return [sum(sizes), sum(sizes.slice(1))];
}

/** The drops of the topic have taken exactly what is below its start, for this reason. */
async function droppedBelow(start: number, reason: string): Promise<void> {
  const drops = await scene.drops('orders');
  expect(new Set(drops.map((drop) => drop.reason))).toEqual(new Set([reason]));
  const offsets = drops.flatMap(({ ranges }) => ranges.flatMap(({ first, last }) => numbers(first, last + 1)));
  expect(offsets).toEqual(numbers(0, start));
}

const startOf = async (): Promise<number> => (await scene.extent('orders')).logStartOffset;

test('a cap by bytes on a topic in use drops the oldest segments that a group is owed, until the rest fits', async () => {
  await scene.topic('orders', { retention: { afterCompletionMs: null } });
  await scene.subscribe('slow', 'orders');
  const published = await scene.fill('orders', 4);
  scene.pass(100 * day);
  await scene.looked('orders');
  expect(await scene.drops('orders')).toEqual([]);
  const slow = consumer('slow');
  const inFlight = await slow.read(2);
  expect(inFlight.offsets).toEqual([0, 1]);

  const maxBytes = 2 * 262_144 + 100_000;
  const [before] = await stored();
  expect(before).toBeGreaterThan(maxBytes);
  await scene.services.topic.updateTopic({ name: 'orders', retention: { maxBytes } });
  await scene.until('room', async () => (await stored())[0]! <= maxBytes);
  const start = await startOf();
  await droppedBelow(start, 'MAX_BYTES');
  // The last drop was still needed.
  const [dropped] = (await scene.drops('orders')).slice(-1);
  expect((await stored())[0]! + dropped!.bytes).toBeGreaterThan(maxBytes);
  expect(await scene.readable('orders')).toEqual(numbers(start, published));

  await scene.until('the jump', () => scene.counts.gapRecords >= start);
  expect(scene.counts.gapRecords).toBe(start);
  expect(await inFlight.ack()).toBe('ALREADY_ACKED');
  const behind = await slow.read(1);
  expect([behind.offsets, slow.gaps]).toEqual([[start], [gapOf(0, start - 1, 'MAX_BYTES')]]);
  expect(await behind.ack()).toBe('OK');
  expect(await slow.readAll()).toEqual(numbers(start + 1, published));
  expect(slow.gaps).toEqual([]);
});

test('a cap by age drops what is owed when it is that old and not a minute before, and each new reader is told first', async () => {
  await scene.topic('orders', { retention: { maxAgeMs: hour } });
  await scene.subscribe('slow', 'orders');
  const published = await scene.fill('orders', 2);
  scene.pass(hour - minute);
  await scene.looked('orders');
  expect(await scene.drops('orders')).toEqual([]);
  scene.pass(minute);
  await scene.until('two drops', async () => (await scene.drops('orders')).length === 2);
  const start = await startOf();
  await droppedBelow(start, 'MAX_AGE');
  expect(await scene.readable('orders')).toEqual(numbers(start, published));

  const gap = gapOf(0, start - 1, 'MAX_AGE');
  for (const isSuccessor of [false, true]) {
    if (isSuccessor) await scene.takeOver();
    const reader = await Reader.open(scene.services, 'slow', 'orders');
    await scene.until('a record', () => reader.received.length > 1);
    expect(reader.received).toEqual([gap, start]);
  }
});

test('a cap takes nothing from a group that has acked it, also if the acks are not folded', async () => {
  await scene.topic('orders', { retention: { maxAgeMs: hour, afterCompletionMs: null } });
  await scene.subscribe('fast', 'orders');
  const published = await scene.fill('orders', 2);
  scene.pass(hour - minute);
  await scene.looked('orders');
  await scene.commit('fast', 'orders', published);
  scene.pass(minute);
  await scene.until('two drops', async () => (await scene.drops('orders')).length === 2);
  await droppedBelow(await startOf(), 'MAX_AGE');
  const fast = consumer('fast');
  expect([await fast.readAll(), fast.gaps, scene.counts.gapRecords]).toEqual([[], [], 0]);
  expect(await scene.query('SELECT * FROM millrace.cursor_gaps')).toEqual([]);
});
