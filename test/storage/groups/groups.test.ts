import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { AssignmentRow, GroupChange, MemberId, MemberRow } from '../../../src/coordinator/group.ts';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import { startsAt } from '../../support/starts.ts';
import { GroupSite, type SiteStorage } from './group-site.ts';
import { allCursors, allGroups } from '../../conformance/loads.ts';
import { cancelIn, createIn, endIn, saveIn } from '../../support/groups/group-writes.ts';

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

describe('a group', () => {
  test('a group of very many partitions is emptied in seconds, although the statistics are from an empty table', async () => {
    const groupId = await store.createGroup('large');
    const a = member('a');
    const putAssignments = Array.from({ length: 30_000 }, (_, partition) => held(partition, a));
    await saveIn(store, [{ groupId, change: change(1, { putMembers: [a], putAssignments }) }]);
    await saveIn(store, [{ groupId, change: change(2, { removedAssignments: putAssignments }) }]);
    await site.client.query('ANALYZE millrace.group_assignments');
    await saveIn(store, [{ groupId, change: change(3, { putAssignments }) }]);
    await saveIn(store, [{ groupId, change: change(4, { removedAssignments: putAssignments }) }]);
    const { rows } = await site.client.query('SELECT 1 FROM millrace.group_assignments WHERE group_id = $1', [groupId]);
    expect(rows).toEqual([]);
  }, 20_000);
});

describe('a group without members', () => {
  test('a group without members is deleted with all its rows, and with no row of another group', async () => {
    const [x, y] = [await store.createGroup('x'), await store.createGroup('y')];
    const [of] = await createIn(store, [{ groupId: x, topicId: 1, offsets: startsAt([1, 2]) }]);
    await cancelIn(store, of!.id);
    await createIn(store, [{ groupId: x, topicId: 1, offsets: startsAt([3]) }]);
    const [others] = await createIn(store, [{ groupId: y, topicId: 1, offsets: startsAt([7]) }]);
    await saveIn(store, [{ groupId: x, change: change(1, { putAssignments: [held(0, member('a'))] }) }]);
    await endIn(store, x);
    await endIn(store, x);
    expect((await allGroups(store)).map(({ name, subscriptions }) => [name, subscriptions.length])).toEqual([['y', 1]]);
    expect((await allCursors(store)).map(({ key }) => key.subscriptionId)).toEqual([others!.id]);
    for (const table of ['subscriptions', 'cursors']) expect(await site.count(table)).toBe(1);
    expect(await site.count('group_assignments')).toBe(0);
    expect(await store.createGroup('x')).not.toBe(x);
  });
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
  expect(cursors[0]!.cursor).toEqual({ ...begunAt(5), acked: [7, 9], attempts: [6, 6, 1] });
  expect(tookMs).toBeLessThan(5_000);
});
