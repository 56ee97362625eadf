import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { AssignmentRow, GroupChange, MemberId, MemberRow } from '../../src/coordinator/group.ts';
import { begunAt } from '../../src/consumption/partitioned/cursor.ts';
import { startsAt } from '../support/starts.ts';
import { GroupSite, type SiteStorage } from './group-site.ts';
import { allCursors, allGroups } from '../support/loads.ts';

let site: GroupSite;
let store: SiteStorage;

beforeAll(async () => {
  site = await GroupSite.open();
  store = await site.own('one', 1);
});

afterAll(() => site.close());

beforeEach(async () => {
  await site.client.query('TRUNCATE millrace.consumer_groups, millrace.group_assignments CASCADE');
});

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

async function loaded(name: string) {
  const group = (await allGroups(store)).find((one) => one.name === name);
  if (group === undefined) throw new Error(`no group ${name}`);
  const assignments = [...group.snapshot.assignments].sort((a, b) => a.partition - b.partition);
  return { ...group, snapshot: { ...group.snapshot, assignments } };
}

describe('a group', () => {
  test('is made once, whoever asks and however often', async () => {
    const id = await store.createGroup('billing');
    expect(await store.createGroup('billing')).toBe(id);
    expect(await store.createGroup('Billing')).not.toBe(id);
    expect((await allGroups(store)).map(({ name }) => name).sort()).toEqual(['Billing', 'billing']);
  });

  test('comes back as it was saved', async () => {
    const groupId = await store.createGroup('billing');
    const a = member('a');
    const b = member('b', { kind: 'CLASSIC', sessionTimeoutMs: 6_000, topicIds: [], joinSeq: 2, assignor: 'range' });
    const saved = change(3, { putMembers: [b, a], putAssignments: [held(0, a), held(1, b, 3)] });
    await store.saveGroups([{ groupId, change: saved }]);
    expect((await loaded('billing')).snapshot).toEqual({
      generation: 3,
      members: [a, b],
      assignments: [held(0, a), held(1, b, 3)],
    });
  });

  test('saved twice is saved once', async () => {
    const groupId = await store.createGroup('billing');
    const [a, b] = [member('a'), member('b', { joinSeq: 2 })];
    const first = change(1, { putMembers: [a, b], putAssignments: [held(0, a), held(1, b)] });
    const second = change(2, {
      removedMembers: [b.memberId],
      putMembers: [{ ...a, topicIds: [1] }],
      putAssignments: [held(1, a, 2)],
      removedAssignments: [{ topicId: 1, partition: 0 }],
    });
    for (const one of [first, second, second]) await store.saveGroups([{ groupId, change: one }]);
    expect((await loaded('billing')).snapshot).toEqual({
      generation: 2,
      members: [{ ...a, topicIds: [1] }],
      assignments: [held(1, a, 2)],
    });
  });

  test('changed several times in one save is as the last change says', async () => {
    const groupId = await store.createGroup('billing');
    const [a, b] = [member('a'), member('b', { joinSeq: 2 })];
    await store.saveGroups([
      { groupId, change: change(1, { putMembers: [a], putAssignments: [held(0, a)] }) },
      {
        groupId,
        change: change(2, { putMembers: [b], removedMembers: [a.memberId], putAssignments: [held(0, b, 2)] }),
      },
      { groupId, change: change(3, { removedAssignments: [{ topicId: 1, partition: 0 }] }) },
      { groupId, change: change(4, { putMembers: [a], putAssignments: [held(0, a, 4)] }) },
    ]);
    expect((await loaded('billing')).snapshot).toEqual({
      generation: 4,
      members: [a, b],
      assignments: [held(0, a, 4)],
    });
  });

  test('of very many partitions is emptied in seconds although the statistics were taken while no group had any', async () => {
    const groupId = await store.createGroup('large');
    const a = member('a');
    const putAssignments = Array.from({ length: 30_000 }, (_, partition) => held(partition, a));
    await store.saveGroups([{ groupId, change: change(1, { putMembers: [a], putAssignments }) }]);
    await store.saveGroups([{ groupId, change: change(2, { removedAssignments: putAssignments }) }]);
    await site.client.query('ANALYZE millrace.group_assignments');
    await store.saveGroups([{ groupId, change: change(3, { putAssignments }) }]);
    await store.saveGroups([{ groupId, change: change(4, { removedAssignments: putAssignments }) }]);
    const { rows } = await site.client.query('SELECT 1 FROM millrace.group_assignments WHERE group_id = $1', [groupId]);
    expect(rows).toEqual([]);
  }, 20_000);

  test('is not mixed up with another one that is saved along', async () => {
    const ids = [await store.createGroup('x'), await store.createGroup('y')];
    const a = member('a');
    await store.saveGroups(
      ids.map((groupId, at) => ({
        groupId,
        change: change(at + 1, { putMembers: [a], putAssignments: [held(at, a)] }),
      })),
    );
    await store.saveGroups([{ groupId: ids[0]!, change: change(5, { removedMembers: [a.memberId] }) }]);
    expect((await loaded('x')).snapshot).toMatchObject({ generation: 5, members: [] });
    expect((await loaded('y')).snapshot).toEqual({ generation: 2, members: [a], assignments: [held(1, a)] });
  });
});

describe('a group without members', () => {
  const emptyForMs = async (name: string) => (await loaded(name)).emptyForMs;
  const age = (name: string) =>
    site.client.query(
      `UPDATE millrace.consumer_groups SET empty_since = empty_since - interval '1 hour' WHERE name = $1`,
      [name],
    );

  test('counts from its creation, and from the moment at which the last member has gone', async () => {
    const groupId = await store.createGroup('billing');
    await age('billing');
    expect(await emptyForMs('billing')).toBeGreaterThanOrEqual(3_600_000);
    const [a, b] = [member('a'), member('b', { joinSeq: 2 })];
    await store.saveGroups([{ groupId, change: change(1, { putMembers: [a, b] }) }]);
    expect(await emptyForMs('billing')).toBeNull();
    await store.saveGroups([{ groupId, change: change(2, { removedMembers: [a.memberId] }) }]);
    expect(await emptyForMs('billing')).toBeNull();
    const gone = { groupId, change: change(3, { removedMembers: [b.memberId] }) };
    await store.saveGroups([gone]);
    expect(await emptyForMs('billing')).toBeLessThan(10_000);
    await age('billing');
    // A write that is repeated because nobody knew of it does not begin the time anew.
    await store.saveGroups([gone]);
    expect(await emptyForMs('billing')).toBeGreaterThanOrEqual(3_600_000);
  });

  test('counts anew when it is touched; one with members stays without a time', async () => {
    const ids = [await store.createGroup('x'), await store.createGroup('y'), await store.createGroup('z')];
    await store.saveGroups([{ groupId: ids[1]!, change: change(1, { putMembers: [member('a')] }) }]);
    await age('x');
    await age('z');
    await store.touchGroups(ids.slice(0, 2));
    expect(await emptyForMs('x')).toBeLessThan(10_000);
    expect(await emptyForMs('y')).toBeNull();
    expect(await emptyForMs('z')).toBeGreaterThanOrEqual(3_600_000);
  });

  test('is deleted with all that hangs on it, and nothing of another one', async () => {
    const [x, y] = [await store.createGroup('x'), await store.createGroup('y')];
    const [of] = await store.createSubscriptions([{ groupId: x, topicId: 1, offsets: startsAt([1, 2]) }]);
    await store.cancelSubscription(of!.id);
    await store.createSubscriptions([{ groupId: x, topicId: 1, offsets: startsAt([3]) }]);
    const [others] = await store.createSubscriptions([{ groupId: y, topicId: 1, offsets: startsAt([7]) }]);
    await store.saveGroups([{ groupId: x, change: change(1, { putAssignments: [held(0, member('a'))] }) }]);
    await store.deleteGroup(x);
    await store.deleteGroup(x);
    expect((await allGroups(store)).map(({ name, subscriptions }) => [name, subscriptions.length])).toEqual([
      ['y', 1],
    ]);
    expect((await allCursors(store)).map(({ key }) => key.subscriptionId)).toEqual([others!.id]);
    for (const table of ['subscriptions', 'cursors']) expect(await site.count(table)).toBe(1);
    expect(await site.count('group_assignments')).toBe(0);
    expect(await store.createGroup('x')).not.toBe(x);
  });
});

describe('a subscription', () => {
  test('is made with its cursors, and found again when it is asked for once more', async () => {
    const groupId = await store.createGroup('billing');
    const [made] = await store.createSubscriptions([{ groupId, topicId: 1, offsets: startsAt([7, 0, 9]) }]);
    expect(made).toMatchObject({ groupId, topicId: 1 });
    expect(Math.abs(made!.createdAtMs - (await databaseMs()))).toBeLessThan(10_000);
    const again = await store.createSubscriptions([
      { groupId, topicId: 2, offsets: startsAt([5]) },
      { groupId, topicId: 1, offsets: startsAt([100, 100, 100]) },
      { groupId, topicId: 2, offsets: startsAt([6]) },
    ]);
    expect(again.map(({ topicId }) => topicId)).toEqual([2, 1, 2]);
    expect(again[1]).toEqual(made);
    expect(again[2]).toEqual(again[0]);
    expect((await loaded('billing')).subscriptions).toHaveLength(2);
    const cursors = await allCursors(store);
    expect(
      cursors.map(({ key, cursor }) => [key.subscriptionId === made!.id, key.partition, cursor.committedOffset]).sort(),
    ).toEqual([
      [false, 0, 5],
      [true, 0, 7],
      [true, 1, 0],
      [true, 2, 9],
    ]);
  });

  test('that was cancelled does not come back, and a new one is another one', async () => {
    const groupId = await store.createGroup('billing');
    const [first] = await store.createSubscriptions([{ groupId, topicId: 1, offsets: startsAt([7]) }]);
    await store.cancelSubscription(first!.id);
    await store.cancelSubscription(first!.id);
    expect((await loaded('billing')).subscriptions).toEqual([]);
    expect(await allCursors(store)).toEqual([]);
    const [second] = await store.createSubscriptions([{ groupId, topicId: 1, offsets: startsAt([3]) }]);
    expect(second!.id).not.toBe(first!.id);
    expect((await allCursors(store)).map(({ cursor }) => cursor.committedOffset)).toEqual([3]);
  });

  test('of a topic that is gone is refused, and nothing of the call is made', async () => {
    const groupId = await store.createGroup('billing');
    const wanted = [
      { groupId, topicId: 1, offsets: startsAt([0]) },
      { groupId, topicId: 999, offsets: startsAt([0]) },
    ];
    await expect(store.createSubscriptions(wanted)).rejects.toMatchObject({ kind: 'DATA_REFUSED' });
    expect((await loaded('billing')).subscriptions).toEqual([]);
  });
});

test('a broker that was taken over from writes nothing of its groups', async () => {
  const groupId = await store.createGroup('billing');
  const [subscription] = await store.createSubscriptions([{ groupId, topicId: 1, offsets: startsAt([7]) }]);
  const old = site.storage('one', 0);
  const a = member('a');
  const key = { subscriptionId: subscription!.id, partition: 0, lane: 0 };
  const cursor = begunAt(99);
  for (const write of [
    () => old.createGroup('other'),
    () => old.saveGroups([{ groupId, change: change(9, { putMembers: [a] }) }]),
    () => old.createSubscriptions([{ groupId, topicId: 2, offsets: startsAt([0]) }]),
    () => old.cancelSubscription(subscription!.id),
    () => old.deleteGroup(groupId),
    () => old.touchGroups([groupId]),
    () => old.resetCursors([{ key, offset: 0, resets: 1 }]),
    () => old.appendRound({ deltas: [{ key, delta: cursor }] }),
    // A round of nothing proves who owns the database.
    () => old.appendRound({ deltas: [] }),
    () => old.foldAll(() => [{ key, cursor }]),
  ]) {
    await expect(write()).rejects.toMatchObject({ kind: 'FENCED' });
  }
  const group = await loaded('billing');
  expect(group).toMatchObject({ snapshot: { generation: 0, members: [] }, subscriptions: [subscription] });
  expect((await allCursors(store))[0]?.cursor.committedOffset).toBe(7);
  expect((await allGroups(store)).map(({ name }) => name)).toEqual(['billing']);
});

test('ten thousand groups are loaded within seconds', async () => {
  await site.client.query(`
    INSERT INTO millrace.consumer_groups (name) SELECT 'g' || n FROM generate_series(1, 10000) AS n;
    INSERT INTO millrace.group_members SELECT id, 'm-' || id || '-' || n, 'c', 'h', 'STREAM', NULL, 1, 'range', '{1}', n
      FROM millrace.consumer_groups, generate_series(1, 3) AS n;
    INSERT INTO millrace.group_assignments SELECT id, 1, n - 1, 'm-' || id || '-' || n, 1
      FROM millrace.consumer_groups, generate_series(1, 3) AS n;
    INSERT INTO millrace.subscriptions (group_id, topic_id) SELECT id, 1 FROM millrace.consumer_groups;
    INSERT INTO millrace.cursors SELECT id, n - 1, 0, 5, '{7,9}', '{6,1}'
      FROM millrace.subscriptions, generate_series(1, 3) AS n`);
  const started = performance.now();
  const [groups, cursors] = await Promise.all([allGroups(store), allCursors(store)]);
  const tookMs = performance.now() - started;
  console.log(`10,000 groups with 30,000 members, assignments and cursors loaded in ${Math.round(tookMs)} ms`);
  expect(groups).toHaveLength(10_000);
  expect(groups[77]!.snapshot.members).toHaveLength(3);
  expect(cursors).toHaveLength(30_000);
  expect(cursors[0]!.cursor).toEqual({ ...begunAt(5), acked: [7, 9], attempts: [6, 1] });
  expect(tookMs).toBeLessThan(5_000);
});

async function databaseMs(): Promise<number> {
  const { rows } = await site.client.query<{ ms: number }>(
    'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms',
  );
  return rows[0]!.ms;
}
