import { expect, test } from 'vitest';
import { AckRing } from '../../src/commit/ack-ring.ts';

test('a fold does not begin while a settlement may still write to a table that the fold would truncate', async () => {
  const ring = new AckRing();
  const first = ring.refer();
  const second = ring.refer();
  ring.turn();
  const resolved: string[] = [];
  const free = ring.olderFree().then(() => resolved.push('free'));
  first.release();
  await Promise.resolve();
  expect([ring.olderAreFree, resolved]).toEqual([false, []]);
  second.release();
  await free;
  expect([ring.olderAreFree, resolved]).toEqual([true, ['free']]);
});

test('a reference to the current table does not delay a fold', async () => {
  const ring = new AckRing();
  ring.turn();
  expect(ring.refer().table).toBe(1);
  await ring.olderFree();
  ring.turn();
  expect(ring.olderAreFree).toBe(false);
});

test('a reference that is released twice does not release another reference', () => {
  const ring = new AckRing();
  const one = ring.refer();
  ring.refer();
  ring.turn();
  one.release();
  one.release();
  expect(ring.olderAreFree).toBe(false);
});

test('a reference delays folds for two turns, and not once its table is the current one again', () => {
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
