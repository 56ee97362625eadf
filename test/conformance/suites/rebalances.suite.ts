import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { GroupChange, MemberId, RebalanceRow } from '../../../src/coordinator/group.ts';
import { limits } from '../../../src/limits/limits.ts';
import { newGroup, type Stores, type StoreSite } from '../site.ts';
import { endIn, saveIn } from '../../support/groups/group-writes.ts';

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
  const nothing = { putMembers: [], removedMembers: [], putAssignments: [], removedAssignments: [] };
  return { generation, ...nothing, rebalances };
}

/** The last rebalances of each group, as every GroupStore keeps them. */
export function describeRebalances(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;

  beforeAll(async () => {
    site = await open();
    stores = await site.own();
  });

  afterAll(() => site.close());

  const generations = async (groupId: number): Promise<number[]> =>
    (await stores.groups.loadRebalances(groupId)).map(({ generation }) => generation);

  describe('the rebalances of a group', () => {
    test('rebalances are read back unchanged, the newest first, with the time of their end', async () => {
      const { id: groupId } = await newGroup(stores);
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
      const begunMs = site.nowMs;
      await saveIn(stores.groups, [{ groupId, change: change(1, first) }]);
      site.pass(60_000);
      await saveIn(stores.groups, [{ groupId, change: change(2, second) }]);
      const found = await stores.groups.loadRebalances(groupId);
      expect(found).toMatchObject([second, first]);
      const [newest, oldest] = found.map(({ endedAtMs }) => endedAtMs);
      expect(oldest).toBeGreaterThanOrEqual(begunMs);
      expect(newest! - oldest!).toBeGreaterThanOrEqual(60_000);
      expect(newest).toBeLessThanOrEqual(site.nowMs);
    });

    test('the rebalances of a group are not those of another group', async () => {
      const [{ id: one }, { id: other }] = [await newGroup(stores), await newGroup(stores)];
      await saveIn(stores.groups, [
        { groupId: one, change: change(4, rebalance(4)) },
        { groupId: other, change: change(9, rebalance(8), rebalance(9)) },
      ]);
      expect([await generations(one), await generations(other)]).toEqual([[4], [9, 8]]);
      expect(await stores.groups.loadRebalances(one + 1_000_000)).toEqual([]);
    });

    test('rebalances that are saved again after an unknown outcome are there once and unchanged', async () => {
      const { id: groupId } = await newGroup(stores);
      const save = { groupId, change: change(2, rebalance(1), rebalance(2, { durationMs: 7 })) };
      await saveIn(stores.groups, [save]);
      const before = await stores.groups.loadRebalances(groupId);
      site.pass(60_000);
      await saveIn(stores.groups, [save]);
      expect(await stores.groups.loadRebalances(groupId)).toEqual(before);
      expect(before.map(({ durationMs }) => durationMs)).toEqual([7, 0]);
    });

    test('only the last hundred rebalances of a group are kept, and other groups keep theirs', async () => {
      const [{ id: one }, { id: other }] = [await newGroup(stores), await newGroup(stores)];
      await saveIn(stores.groups, [{ groupId: other, change: change(1, rebalance(1)) }]);
      const kept = limits.rebalancesKept;
      for (let generation = 1; generation <= kept + 5; generation++) {
        await saveIn(stores.groups, [{ groupId: one, change: change(generation, rebalance(generation)) }]);
      }
      expect(await generations(one)).toEqual(Array.from({ length: kept }, (_, n) => kept + 5 - n));
      const many = Array.from({ length: kept + 50 }, (_, n) => rebalance(1_000 + n));
      await saveIn(stores.groups, [{ groupId: one, change: change(1_000 + many.length, ...many) }]);
      expect(await generations(one)).toEqual(Array.from({ length: kept }, (_, n) => 1_000 + kept + 49 - n));
      expect(await generations(other)).toEqual([1]);
    });

    test('the rebalances of a group are deleted with it', async () => {
      const { name, id: groupId } = await newGroup(stores);
      await saveIn(stores.groups, [{ groupId, change: change(1, rebalance(1)) }]);
      await endIn(stores.groups, groupId);
      expect(await stores.groups.loadRebalances(groupId)).toEqual([]);
      expect(await stores.groups.loadRebalances(await stores.groups.createGroup(name))).toEqual([]);
    });

    test('a fenced broker adds no rebalance, and its successor reads all of them', async () => {
      const { id: groupId } = await newGroup(stores);
      await saveIn(stores.groups, [{ groupId, change: change(1, rebalance(1)) }]);
      const stale = stores;
      stores = await site.own();
      await expect(saveIn(stale.groups, [{ groupId, change: change(2, rebalance(2)) }])).rejects.toMatchObject({
        kind: 'FENCED',
      });
      await saveIn(stores.groups, [{ groupId, change: change(3, rebalance(3)) }]);
      expect(await generations(groupId)).toEqual([3, 1]);
    });
  });
}
