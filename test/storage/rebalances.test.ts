import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { GroupChange, MemberId, RebalanceRow } from '../../src/coordinator/group.ts';
import { limits } from '../../src/limits/limits.ts';
import type { GroupStorage } from '../../src/storage/groups/groups.ts';
import { GroupSite } from './group-site.ts';

let site: GroupSite;
let store: GroupStorage;

beforeAll(async () => {
  site = await GroupSite.open();
  store = await site.own('one', 1);
});

afterAll(() => site.close());

beforeEach(async () => {
  await site.client.query('TRUNCATE millrace.consumer_groups CASCADE');
});

function rebalance(generation: number, more: Partial<RebalanceRow> = {}): RebalanceRow {
  return {
    generation,
    causes: [{ reason: 'MEMBER_JOINED', memberId: 'member-1' as MemberId, count: 1 }],
    durationMs: 0,
    memberCount: 1,
    assignedCount: 0,
    revokedCount: 0,
    completed: true,
    ...more,
  };
}

function change(generation: number, ...rebalances: readonly RebalanceRow[]): GroupChange {
  return {
    generation,
    putMembers: [],
    removedMembers: [],
    putAssignments: [],
    removedAssignments: [],
    rebalances,
  };
}

const generations = async (groupId: number): Promise<number[]> =>
  (await store.loadRebalances(groupId)).map(({ generation }) => generation);

describe('the rebalances of a group', () => {
  test('come back as they were, the newest first, with when they ended', async () => {
    const groupId = await store.createGroup('billing');
    const first = rebalance(1, {
      causes: [
        { reason: 'MEMBER_JOINED', memberId: `"'\\{,}é` as MemberId, count: 3 },
        { reason: 'PARTITIONS_CHANGED', memberId: null, count: 1 },
      ],
      durationMs: 12.345,
      memberCount: 3,
      assignedCount: 6,
      completed: false,
    });
    const second = rebalance(2, { causes: [{ reason: 'TAKEOVER', memberId: null, count: 1 }], revokedCount: 2 });
    await store.saveGroups([{ groupId, change: change(1, first) }]);
    await store.saveGroups([{ groupId, change: change(2, second) }]);
    const found = await store.loadRebalances(groupId);
    expect(found).toMatchObject([second, first]);
    const [newest, oldest] = found.map(({ endedAtMs }) => endedAtMs);
    expect(newest).toBeGreaterThanOrEqual(oldest!);
    const { rows } = await site.client.query<{ ms: string }>(
      'SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms',
    );
    expect(Math.abs(Number(rows[0]!.ms) - newest!)).toBeLessThan(60_000);
  });

  test('are not those of another group', async () => {
    const [one, other] = [await store.createGroup('billing'), await store.createGroup('shipping')];
    await store.saveGroups([
      { groupId: one, change: change(4, rebalance(4)) },
      { groupId: other, change: change(9, rebalance(8), rebalance(9)) },
    ]);
    expect([await generations(one), await generations(other)]).toEqual([[4], [9, 8]]);
    expect(await store.loadRebalances(one + other)).toEqual([]);
  });

  test('that are saved again, because nobody knew whether they had been, are there once and as they were', async () => {
    const groupId = await store.createGroup('billing');
    const save = { groupId, change: change(2, rebalance(1), rebalance(2, { durationMs: 7 })) };
    await store.saveGroups([save]);
    const before = await store.loadRebalances(groupId);
    await store.saveGroups([save]);
    expect(await store.loadRebalances(groupId)).toEqual(before);
    expect(before.map(({ durationMs }) => durationMs)).toEqual([7, 0]);
  });

  test('do not grow without end: the last hundred stay, of this group alone', async () => {
    const [one, other] = [await store.createGroup('billing'), await store.createGroup('shipping')];
    await store.saveGroups([{ groupId: other, change: change(1, rebalance(1)) }]);
    const kept = limits.rebalancesKept;
    for (let generation = 1; generation <= kept + 5; generation++) {
      await store.saveGroups([{ groupId: one, change: change(generation, rebalance(generation)) }]);
    }
    expect(await generations(one)).toEqual(Array.from({ length: kept }, (_, n) => kept + 5 - n));
    expect(await site.count('group_rebalances')).toBe(kept + 1);
    const many = Array.from({ length: kept + 50 }, (_, n) => rebalance(1_000 + n));
    await store.saveGroups([{ groupId: one, change: change(1_000 + many.length, ...many) }]);
    expect(await generations(one)).toEqual(Array.from({ length: kept }, (_, n) => 1_000 + kept + 49 - n));
    expect(await site.count('group_rebalances')).toBe(kept + 1);
  });

  test('go with their group', async () => {
    const groupId = await store.createGroup('billing');
    await store.saveGroups([{ groupId, change: change(1, rebalance(1)) }]);
    await site.client.query('DELETE FROM millrace.consumer_groups WHERE id = $1', [groupId]);
    expect(await store.loadRebalances(groupId)).toEqual([]);
  });

  test('are those that the owner wrote: a broker that was taken over from adds none, its successor reads them all', async () => {
    const groupId = await store.createGroup('billing');
    await store.saveGroups([{ groupId, change: change(1, rebalance(1)) }]);
    const stale = site.storage('one', 0);
    await expect(stale.saveGroups([{ groupId, change: change(2, rebalance(2)) }])).rejects.toMatchObject({
      kind: 'FENCED',
    });
    const successor = await site.own('two', 2);
    await successor.saveGroups([{ groupId, change: change(3, rebalance(3)) }]);
    expect((await successor.loadRebalances(groupId)).map(({ generation }) => generation)).toEqual([3, 1]);
  });
});
