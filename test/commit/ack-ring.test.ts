import { expect, test } from 'vitest';
import { AckRing } from '../../src/commit/ack-ring.ts';

test('a fold does not begin while a settlement may still be written to a table that it would truncate', async () => {
  const ring = new AckRing();
  const first = ring.refer();
  const second = ring.refer();
  ring.turn();
  const told: string[] = [];
  const free = ring.olderFree().then(() => told.push('free'));
  first.release();
  await Promise.resolve();
  expect([ring.olderAreFree, told]).toEqual([false, []]);
  second.release();
  await free;
  expect([ring.olderAreFree, told]).toEqual([true, ['free']]);
});

test('a settlement in the table that is written to now keeps no fold back', async () => {
  const ring = new AckRing();
  ring.turn();
  expect(ring.refer().table).toBe(1);
  await ring.olderFree();
  ring.turn();
  expect(ring.olderAreFree).toBe(false);
});

test('a reference that is released twice does not release somebody else’s', () => {
  const ring = new AckRing();
  const one = ring.refer();
  ring.refer();
  ring.turn();
  one.release();
  one.release();
  expect(ring.olderAreFree).toBe(false);
});

test('a table that the ring comes round to again is not free for the turns that are left out', () => {
  const ring = new AckRing();
  const held = ring.refer();
  for (const isFree of [false, false, true]) {
    ring.turn();
    expect(ring.olderAreFree).toBe(isFree);
  }
  ring.turn();
  held.release();
  expect(ring.olderAreFree).toBe(true);
});
