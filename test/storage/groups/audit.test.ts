import { afterAll, beforeAll, expect, test } from 'vitest';
import { createIn } from '../../support/groups/group-writes.ts';
import { startsAt } from '../../support/starts.ts';
import { GroupSite, type SiteStorage } from './group-site.ts';

let site: GroupSite;
let store: SiteStorage;

beforeAll(async () => {
  site = await GroupSite.open();
  store = await site.own('one', 1);
});

afterAll(() => site.close());

/** A group with subscriptions to topics 1 and 2. @returns its id and theirs. */
async function newGroup(name: string): Promise<{ groupId: number; ids: number[] }> {
  const groupId = await store.createGroup(name);
  const made = await createIn(
    store,
    [1, 2].map((topicId) => ({ groupId, topicId, offsets: startsAt([0]) })),
  );
  return { groupId, ids: made.map(({ id }) => id) };
}

async function audited(groupName: string): Promise<unknown[]> {
  const { rows } = await site.client.query<Record<string, unknown>>(
    `SELECT subscription_id AS id, topic_id AS "topicId", topic_name AS topic, state, reason, owed_records::int AS owed
       FROM millrace.subscription_audit WHERE group_name = $1 ORDER BY id`,
    [groupName],
  );
  return rows;
}

test.each(['OFFSET_RETENTION', 'GROUP_DELETED'] as const)(
  'the end of a group by %s leaves a row for each subscription, with its state and what it was owed',
  async (reason) => {
    const { groupId, ids } = await newGroup(reason);
    await site.client.query("UPDATE millrace.subscriptions SET state = 'DEAD' WHERE group_id = $1", [groupId]);
    expect(await store.endGroup(groupId, reason, [{ subscriptionId: ids[1]!, records: 7 }])).toBe(true);
    expect(await audited(reason)).toEqual([
      { id: ids[0], topicId: 1, topic: 'topic-1', state: 'DEAD', reason, owed: 0 },
      { id: ids[1], topicId: 2, topic: 'topic-2', state: 'DEAD', reason, owed: 7 },
    ]);
    // A repeat after a lost answer finds no group.
    expect(await store.endGroup(groupId, reason, [{ subscriptionId: ids[1]!, records: 7 }])).toBe(true);
    expect(await audited(reason)).toHaveLength(2);
  },
);

test('a group that offset retention leaves is not in the audit', async () => {
  const { groupId, ids } = await newGroup('kept');
  await site.client.query("UPDATE millrace.subscriptions SET state = 'DEAD' WHERE id = $1", [ids[0]]);
  expect(await store.endGroup(groupId, 'OFFSET_RETENTION', [])).toBe(false);
  expect(await audited('kept')).toEqual([]);
});

test('a cancelled subscription is in the audit if something was owed to it', async () => {
  const { ids } = await newGroup('cancelled');
  const ends = [{ partition: 0, lane: 0, offset: 9 }];
  for (const [index, owedRecords] of [0, 4].entries()) {
    await store.changeSubscription(ids[index]!, { type: 'CANCEL', ends, owedRecords });
    await store.changeSubscription(ids[index]!, { type: 'CANCEL', ends, owedRecords });
  }
  expect(await audited('cancelled')).toEqual([
    { id: ids[1], topicId: 2, topic: 'topic-2', state: 'ACTIVE', reason: 'CANCELLED', owed: 4 },
  ]);
});
