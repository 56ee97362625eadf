import { afterAll, beforeAll, expect, test } from 'vitest';
import { countQueries, type CountedQueries } from '../../../bench/support/counted-queries.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { batch, transaction, values } from '../../log/records.ts';
import { createIn } from '../../support/groups/group-writes.ts';
import { startsAt } from '../../support/starts.ts';
import { LogSite } from './log-site.ts';

let site: LogSite;
let queries: CountedQueries;

beforeAll(async () => {
  site = await LogSite.open();
  queries = await countQueries(site.database.url);
});

afterAll(async () => {
  await site.close();
  queries.close();
});

/** Makes topics of two partitions, each with a group and with a record in partition 1. */
async function make(count: number): Promise<TopicRow[]> {
  const storage = site.storage('one', 1);
  const topics: TopicRow[] = [];
  for (let n = 0; n < count; n++) {
    const topic = await site.topic(storage, 2);
    const groupId = await storage.groups.createGroup(topic.name);
    await createIn(storage.groups, [{ groupId, topicId: topic.id, offsets: startsAt([0, 0]) }]);
    await storage.commits.append(0, transaction([batch(topic, 1, values('a', 'b'))]));
    topics.push(topic);
  }
  return topics;
}

/** The statements of a start until it serves, and of the read of the ends of these topics. */
async function statementsOf(topics: readonly TopicRow[]): Promise<readonly [serving: number, ends: number]> {
  const { topics: topicStore, retention, groups, log } = site.storage('one', 1, queries.url);
  const load = async (): Promise<number> => {
    const before = queries.sent();
    await topicStore.loadTopics();
    await retention.loadWatermarks();
    await groups.listGroups();
    return queries.sent() - before;
  };
  // The statements that prepare a session do not count.
  await load();
  const serving = await load();
  await log.endsOf(topics.map(({ id }) => id));
  const before = queries.sent();
  const ends = await log.endsOf(topics.map(({ id }) => id));
  for (const { id } of topics) expect(ends.get(id)?.map(({ endOffset }) => endOffset)).toEqual([0, 2]);
  return [serving, queries.sent() - before];
}

test('a start sends as many statements for twenty topics as for one', async () => {
  await site.own('one', 1);
  const first = await statementsOf(await make(1));
  const later = await statementsOf(await make(20));
  expect(later).toEqual(first);
});
