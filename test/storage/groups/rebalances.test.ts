import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { GroupChange, MemberId, RebalanceRow } from '../../../src/coordinator/group.ts';
import { limits } from '../../../src/limits/limits.ts';
import type { GroupStorage } from '../../../src/storage/groups/groups.ts';
import { GroupSite } from './group-site.ts';
import { saveIn } from '../../support/groups/group-writes.ts';

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
  test('only the last hundred rebalances of a group are kept, and other groups keep theirs', async () => {
    const [one, other] = [await store.createGroup('billing'), await store.createGroup('shipping')];
    await saveIn(store, [{ groupId: other, change: change(1, rebalance(1)) }]);
    const kept = limits.rebalancesKept;
    for (let generation = 1; generation <= kept + 5; generation++) {
      await saveIn(store, [{ groupId: one, change: change(generation, rebalance(generation)) }]);
    }
    expect(await generations(one)).toEqual(Array.from({ length: kept }, (_, n) => kept + 5 - n));
    expect(await site.count('group_rebalances')).toBe(kept + 1);
    const many = Array.from({ length: kept + 50 }, (_, n) => rebalance(1_000 + n));
    await saveIn(store, [{ groupId: one, change: change(1_000 + many.length, ...many) }]);
    expect(await generations(one)).toEqual(Array.from({ length: kept }, (_, n) => 1_000 + kept + 49 - n));
    expect(await site.count('group_rebalances')).toBe(kept + 1);
  });
});
