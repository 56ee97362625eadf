import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AssignmentRow, GroupChange, MemberId, MemberRow } from '../../../src/coordinator/group.ts';
import {
  cursorsOf,
  findGroup,
  newGroup,
  newTopic,
  subscriptionsWithCursors,
  type Stores,
  type StoreSite,
} from '../site.ts';
import { startsAt } from '../../support/starts.ts';
import { cancelIn, createIn, endIn, saveIn } from '../../support/groups/group-writes.ts';

const hourMs = 3_600_000;

function member(name: string, more: Partial<MemberRow> = {}): MemberRow {
  return {
    memberId: `${name}-1` as MemberId,
    clientId: `${name} "'\\{,}é`,
    host: '127.0.0.1:1',
    instanceId: null,
    kind: 'STREAM',
    maxPollIntervalMs: 300_000,
    clientAssignors: [],
    metadata: Buffer.alloc(0),
    sessionTimeoutMs: null,
    rebalanceTimeoutMs: 60_000,
    assignor: 'sticky',
    topicIds: [1, 2],
    joinSeq: 1,
    ...more,
  };
}

function held(partition: number, by: MemberRow, sinceGeneration = 1): AssignmentRow {
  return { topicId: 1, partition, memberId: by.memberId, sinceGeneration };
}

function change(generation: number, more: Partial<GroupChange> = {}): GroupChange {
  const nothing = { putMembers: [], removedMembers: [], putAssignments: [], removedAssignments: [], rebalances: [] };
  return { generation, ...nothing, ...more };
}

/** Groups with their members and assignments, as every GroupStore keeps them. */
export function describeGroups(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;

  beforeAll(async () => {
    site = await open();
    stores = await site.own();
  });

  afterAll(() => site.close());

  const save = (groupId: number, one: GroupChange): Promise<unknown> =>
    saveIn(stores.groups, [{ groupId, change: one }]);
  const snapshotOf = async (name: string) => (await findGroup(stores, name))?.snapshot;

  describe('a group', () => {
    test('a group is created once, however often it is asked for, and its name may have capitals', async () => {
      const { name, id } = await newGroup(stores);
      expect(await stores.groups.createGroup(name)).toBe(id);
      const other = name.toUpperCase();
      expect(await stores.groups.createGroup(other)).not.toBe(id);
      expect([await findGroup(stores, name), await findGroup(stores, other)]).toMatchObject([
        { name },
        { name: other },
      ]);
    });

    test('a saved group is read back with its members in the order in which they joined', async () => {
      const { name, id } = await newGroup(stores);
      const a = member('a', { metadata: Buffer.from([0, 0xff, 7]), clientAssignors: ['NULL', 'x.y'] });
      const b = member('b', { kind: 'CLASSIC', sessionTimeoutMs: 6_000, topicIds: [], joinSeq: 2, assignor: 'range' });
      await save(id, change(3, { putMembers: [b, a], putAssignments: [held(0, a), held(1, b, 3)] }));
      expect(await snapshotOf(name)).toEqual({
        generation: 3,
        members: [a, b],
        assignments: [held(0, a), held(1, b, 3)],
      });
    });

    test('a save that is repeated after an unknown outcome changes nothing', async () => {
      const { name, id } = await newGroup(stores);
      const [a, b] = [member('a'), member('b', { joinSeq: 2 })];
      const first = change(1, { putMembers: [a, b], putAssignments: [held(0, a), held(1, b)] });
      const second = change(2, {
        removedMembers: [b.memberId],
        putMembers: [{ ...a, topicIds: [1] }],
        putAssignments: [held(1, a, 2)],
        removedAssignments: [{ topicId: 1, partition: 0 }],
      });
      for (const one of [first, second, second]) await save(id, one);
      expect(await snapshotOf(name)).toEqual({
        generation: 2,
        members: [{ ...a, topicIds: [1] }],
        assignments: [held(1, a, 2)],
      });
    });

    test('the last of several changes of a group in one save wins', async () => {
      const { name, id: groupId } = await newGroup(stores);
      const [a, b] = [member('a'), member('b', { joinSeq: 2 })];
      await saveIn(stores.groups, [
        { groupId, change: change(1, { putMembers: [a], putAssignments: [held(0, a)] }) },
        {
          groupId,
          change: change(2, { putMembers: [b], removedMembers: [a.memberId], putAssignments: [held(0, b, 2)] }),
        },
        { groupId, change: change(3, { removedAssignments: [{ topicId: 1, partition: 0 }] }) },
        { groupId, change: change(4, { putMembers: [a], putAssignments: [held(0, a, 4)] }) },
      ]);
      expect(await snapshotOf(name)).toEqual({ generation: 4, members: [a, b], assignments: [held(0, a, 4)] });
    });

    test('two groups in one save do not affect each other', async () => {
      const groups = [await newGroup(stores), await newGroup(stores)];
      const a = member('a');
      await saveIn(
        stores.groups,
        groups.map(({ id: groupId }, at) => ({
          groupId,
          change: change(at + 1, { putMembers: [a], putAssignments: [held(at, a)] }),
        })),
      );
      await save(groups[0]!.id, change(5, { removedMembers: [a.memberId] }));
      expect(await snapshotOf(groups[0]!.name)).toMatchObject({ generation: 5, members: [] });
      expect(await snapshotOf(groups[1]!.name)).toEqual({ generation: 2, members: [a], assignments: [held(1, a)] });
    });

    test('a save skips a deleted group, and writes the other groups', async () => {
      const [gone, stays] = [await newGroup(stores), await newGroup(stores)];
      await endIn(stores.groups, gone.id);
      await saveIn(stores.groups, [
        { groupId: gone.id, change: change(1) },
        { groupId: stays.id, change: change(2) },
      ]);
      expect(await findGroup(stores, gone.name)).toBeUndefined();
      expect(await snapshotOf(stays.name)).toMatchObject({ generation: 2 });
    });
  });

  describe('a group without members', () => {
    const emptyForMs = async (name: string) => (await findGroup(stores, name))?.emptyForMs;

    test('a group is empty since its creation, or since its last member left', async () => {
      const { name, id } = await newGroup(stores);
      site.pass(hourMs);
      expect(await emptyForMs(name)).toBeGreaterThanOrEqual(hourMs);
      const [a, b] = [member('a'), member('b', { joinSeq: 2 })];
      await save(id, change(1, { putMembers: [a, b] }));
      expect(await emptyForMs(name)).toBeNull();
      await save(id, change(2, { removedMembers: [a.memberId] }));
      expect(await emptyForMs(name)).toBeNull();
      const gone = change(3, { removedMembers: [b.memberId] });
      await save(id, gone);
      expect(await emptyForMs(name)).toBeLessThan(10_000);
      site.pass(hourMs);
      // A repeated write does not restart the time.
      await save(id, gone);
      expect(await emptyForMs(name)).toBeGreaterThanOrEqual(hourMs);
    });

    test('a rebalance without a change of members does not restart the time that a group is empty', async () => {
      const { name, id } = await newGroup(stores);
      site.pass(hourMs);
      await save(id, change(1, { putAssignments: [held(0, member('a'))] }));
      expect(await emptyForMs(name)).toBeGreaterThanOrEqual(hourMs);
    });

    test('a touch restarts the time that a group is empty, and does not start it for a group with members', async () => {
      const [x, y, z] = [await newGroup(stores), await newGroup(stores), await newGroup(stores)];
      await save(y.id, change(1, { putMembers: [member('a')] }));
      site.pass(hourMs);
      await stores.groups.touchGroups([x.id, y.id]);
      expect(await emptyForMs(x.name)).toBeLessThan(10_000);
      expect(await emptyForMs(y.name)).toBeNull();
      expect(await emptyForMs(z.name)).toBeGreaterThanOrEqual(hourMs);
    });

    test('a group without members is deleted with all its rows, and with no row of another group', async () => {
      const topic = await newTopic(stores, 2);
      const [x, y] = [await newGroup(stores), await newGroup(stores)];
      const wanted = (groupId: number, ...offsets: number[]) =>
        createIn(stores.groups, [{ groupId, topicId: topic.id, offsets: startsAt(offsets) }]);
      const [first] = await wanted(x.id, 1, 2);
      await cancelIn(stores.groups, first!.id);
      const [second] = await wanted(x.id, 3, 0);
      const [others] = await wanted(y.id, 7, 0);
      const kept = (await findGroup(stores, y.name))?.subscriptions;
      expect(kept).toMatchObject([{ id: others!.id }]);
      await save(x.id, change(1, { putAssignments: [held(0, member('a'))] }));
      for (const _ of ['once', 'again']) await endIn(stores.groups, x.id);
      expect(await findGroup(stores, x.name)).toBeUndefined();
      expect((await findGroup(stores, y.name))?.subscriptions).toEqual(kept);
      const left = await subscriptionsWithCursors(stores);
      expect([first, second, others].map((one) => left.has(one!.id))).toEqual([false, false, true]);
      expect(await stores.groups.createGroup(x.name)).not.toBe(x.id);
      expect((await findGroup(stores, x.name))?.snapshot).toEqual({ generation: 0, members: [], assignments: [] });
    });
  });

  test('a fenced broker writes nothing to its groups', async () => {
    const topic = await newTopic(stores, 1);
    const { name, id: groupId } = await newGroup(stores);
    const wanted = [{ groupId, topicId: topic.id, offsets: startsAt([7]) }];
    const [subscription] = await createIn(stores.groups, wanted);
    const old = stores;
    stores = await site.own();
    const key = { subscriptionId: subscription!.id, partition: 0, lane: 0 };
    const cursor = { resets: 0, committedOffset: 99, acked: [], attempts: [], metadata: null };
    const unwanted = `${name}-other`;
    for (const write of [
      () => old.groups.createGroup(unwanted),
      () => saveIn(old.groups, [{ groupId, change: change(9, { putMembers: [member('a')] }) }]),
      () => createIn(old.groups, [{ groupId, topicId: topic.id + 1, offsets: startsAt([0]) }]),
      () => cancelIn(old.groups, subscription!.id),
      () => endIn(old.groups, groupId),
      () => old.groups.touchGroups([groupId]),
      () => old.groups.resetCursors([{ key, offset: 0, resets: 1 }]),
      () => old.groups.fold(1, () => [{ key, cursor }]),
      () => old.commits.appendAcks({ table: 0, deltas: [{ key, delta: cursor }], receipts: [] }),
      // An empty round proves which broker owns the database.
      () => old.commits.appendAcks({ table: 0, deltas: [], receipts: [] }),
    ]) {
      await expect(write()).rejects.toMatchObject({ kind: 'FENCED' });
    }
    expect(await findGroup(stores, name)).toMatchObject({
      snapshot: { generation: 0, members: [] },
      subscriptions: [{ id: subscription!.id }],
    });
    expect(await findGroup(stores, unwanted)).toBeUndefined();
    expect(await cursorsOf(stores, key.subscriptionId)).toMatchObject([{ committedOffset: 7 }]);
  });
}
