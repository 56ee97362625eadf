import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CursorJump } from '../../../src/delivery/ports/store.ts';
import { createIn, endIn } from '../../support/groups/group-writes.ts';
import { startsAt } from '../../support/starts.ts';
import { GroupSite, type SiteStorage } from './group-site.ts';

let site: GroupSite;
let store: SiteStorage;

beforeAll(async () => {
  site = await GroupSite.open();
  store = await site.own('one', 1);
});

afterAll(() => site.close());

/** A group with cursors in two partitions, at offset 10. */
async function newCursors(name: string) {
  const groupId = await store.createGroup(name);
  const [row] = await createIn(store, [{ groupId, topicId: 1, offsets: startsAt([10, 10]) }]);
  const { id: subscriptionId } = row!;
  const jump = (partition: number, first: number, last: number, resets = 0): CursorJump => {
    return { key: { subscriptionId, partition, lane: 0 }, resets, gap: { first, last, reason: 'RETENTION' } };
  };
  return { groupId, subscriptionId, jump };
}

async function stored(subscriptionId: number): Promise<CursorJump['gap'][]> {
  const { rows } = await site.client.query<CursorJump['gap']>(
    `SELECT first_offset::float8 AS first, last_offset::float8 AS last, reason FROM millrace.cursor_gaps
      WHERE subscription_id = $1 ORDER BY partition`,
    [subscriptionId],
  );
  return rows;
}

test('a gap that touches the one before is joined with it, and one behind acked records takes its place', async () => {
  const { subscriptionId, jump } = await newCursors('joined');
  await store.saveGaps([jump(1, 10, 19), jump(0, 10, 14)]);
  // The answer of the first was lost.
  await store.saveGaps([jump(1, 10, 19)]);
  await store.saveGaps([jump(0, 15, 29), jump(1, 25, 29)]);
  expect(await stored(subscriptionId)).toEqual([
    { first: 10, last: 29, reason: 'RETENTION' },
    { first: 25, last: 29, reason: 'RETENTION' },
  ]);
});

test('a gap of an earlier incarnation is not stored, and a reset removes that of the one before', async () => {
  const { subscriptionId, jump } = await newCursors('reset');
  const { key } = jump(0, 10, 19);
  await store.saveGaps([jump(0, 10, 19), jump(1, 10, 19)]);
  await store.resetCursors([{ key, offset: 20, resets: 1 }]);
  await store.saveGaps([jump(0, 10, 19)]);
  expect(await stored(subscriptionId)).toHaveLength(1);
  await store.saveGaps([jump(0, 20, 24, 1)]);
  expect(await stored(subscriptionId)).toHaveLength(2);
});

test('a gap of a cursor that is gone is not stored', async () => {
  const { groupId, subscriptionId, jump } = await newCursors('gone');
  await endIn(store, groupId);
  await store.saveGaps([jump(0, 10, 19)]);
  expect(await stored(subscriptionId)).toEqual([]);
});

test('a broker that was taken over stores no gap', async () => {
  const { subscriptionId, jump } = await newCursors('fenced');
  const before = store;
  store = await site.own('two', 2);
  await expect(before.saveGaps([jump(0, 10, 19)])).rejects.toMatchObject({ kind: 'FENCED' });
  expect(await stored(subscriptionId)).toEqual([]);
});
