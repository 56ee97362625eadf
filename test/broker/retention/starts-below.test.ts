import { afterEach, beforeEach, expect, test } from 'vitest';
import type { StartPosition } from '../../../src/broker/commands.ts';
import { day, RetentionScene } from './scene.ts';

/** Positions in records that retention has dropped. */

let scene: RetentionScene;
let start: number;
let end: number;

beforeEach(async () => {
  scene = await RetentionScene.open();
  await scene.topic('orders');
  await scene.fill('orders', 2);
  scene.pass(2 * day);
  await scene.until('the drops', async () => (await scene.drops('orders')).length === 2);
  const extent = await scene.extent('orders');
  [start, end] = [extent.logStartOffset, extent.highWatermark];
  expect(start).toBeGreaterThan(1);
});
afterEach(() => scene.close());

const page = { size: 100, token: '' };
const create = (group: string, position: StartPosition) =>
  scene.services.subscription.createSubscription({ group, topic: 'orders', start: position });

async function committed(group: string): Promise<number | undefined> {
  const { partitions } = await scene.services.subscription.getSubscription(group, 'orders', page);
  return partitions.items[0]?.committedOffset;
}

test('a start below the log is refused and creates nothing', async () => {
  const offsets = (offset: number | null, partitions: { partition: number; lane: null; offset: number }[] = []) =>
    ({ type: 'offsets', offset, partitions }) as const;
  for (const position of [offsets(start - 1), offsets(0), offsets(start, [{ partition: 0, lane: null, offset: 0 }])]) {
    const fields = { topic: 'orders', partition: 0, logStartOffset: start, highWatermark: end };
    await expect(create('billing', position)).rejects.toMatchObject({ reason: 'OFFSET_OUT_OF_RANGE', fields });
    const filter = { group: null, topic: 'orders', states: [] };
    const { items } = await scene.services.subscription.listSubscriptions(filter, page);
    expect(items).toEqual([]);
  }
});

test.each<[string, StartPosition]>([
  ['the earliest record', { type: 'earliest' }],
  ['a time before all records', { type: 'time', timeUs: 0 }],
  ['no offset', { type: 'offsets', offset: null, partitions: [] }],
])('a start at %s begins at the first stored record', async (_what, position) => {
  await create('billing', position);
  expect(await committed('billing')).toBe(start);
});

test('a reset below the log begins at the first stored record, and names it', async () => {
  await create('billing', { type: 'latest' });
  for (const to of [{ type: 'offset', offset: 0 }, { type: 'shift', by: -1_000_000 }, { type: 'earliest' }] as const) {
    const partitions = [{ topic: 'orders', partition: 0, lane: null }];
    const command = { group: 'billing', topics: [], partitions, to, dryRun: false, force: false };
    expect(await scene.services.group.resetOffsets(command)).toMatchObject([{ offset: start }]);
    expect(await committed('billing')).toBe(start);
  }
});

test('a read of messages below the log is refused, and one without an offset begins at the first of them', async () => {
  const read = { topic: 'orders', partition: 0, lane: null, maxRecords: 1, maxBytes: 1_000_000 };
  await expect(scene.services.message.readMessages({ ...read, from: { offset: start - 1 } })).rejects.toMatchObject({
    reason: 'OFFSET_OUT_OF_RANGE',
  });
  for (const from of [null, { offset: start }, { timeUs: 0 }]) {
    expect(await scene.services.message.readMessages({ ...read, from })).toMatchObject({ nextOffset: start + 1 });
  }
});
