import {
  toBinary,
  toJsonString,
  create,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../../../bench/support/timing.ts';
import { GroupService, GroupState } from '../../../gen/millrace/v1/group_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { Site } from '../site.ts';

/** A group of 60,000 partitions and 300 members, whose description once had 29 MB. */

const group = 'wide';
const topics = Array.from({ length: 6 }, (_, at) => `${String(at).padEnd(180, 'x')}`);
const partitions = 10_000;
const members = 300;
/** A member that all of these partitions fall to, until another one joins. */
const alone = 'alone';

let site: Site;
beforeAll(async () => {
  site = await Site.open({ flags: ['--partitions-max', String(partitions)], heapMib: 512 });
  for (const name of topics) await site.call(TopicService.method.createTopic, { topic: { name, partitions } });
  await join(alone);
  const joining = Array.from({ length: members }, (_, at) => join(group, `member-${at}`));
  await Promise.all(joining);
  await waitFor('all partitions at their members', 60_000, 100, async () => {
    const { groups } = await site.call(GroupService.method.listGroups, {});
    return groups.every(({ state }) => state === GroupState.STABLE);
  });
}, 180_000);

afterAll(async () => {
  await site.close();
});

function join(name: string, clientId = 'member') {
  const sessionTimeout = { seconds: 1_800n };
  const maxPollInterval = { seconds: 86_400n };
  return site.call(GroupService.method.joinGroup, { group: name, topics, clientId, sessionTimeout, maxPollInterval });
}

type Paged = { readonly nextPageToken: string };

/** All pages of an answer over gRPC and as JSON, which are alike and none of which is too large. */
async function pagesOf<M extends DescMethodUnary>(
  method: M,
  request: MessageInitShape<M['input']> & object,
): Promise<MessageShape<M['output']>[]> {
  const pages: MessageShape<M['output']>[] = [];
  for (let pageToken: string | null = ''; pageToken !== null;) {
    const asked = create(method.input, { ...request, pageToken });
    const page = await site.call(method, asked as MessageInitShape<M['input']>);
    const json = await jsonOf(method, toJsonString(method.input, asked));
    expect(toBinary(method.output, page).length).toBeLessThanOrEqual(limits.messageBytesMax);
    expect(json.length).toBeLessThanOrEqual(limits.messageBytesMax);
    const { nextPageToken } = page as unknown as Paged;
    expect((JSON.parse(json) as Partial<Paged>).nextPageToken ?? '').toBe(nextPageToken);
    pages.push(page);
    pageToken = nextPageToken === '' ? null : nextPageToken;
  }
  return pages;
}

async function jsonOf(method: DescMethodUnary, body: string): Promise<string> {
  const url = `${site.broker.httpUrl}/${method.parent.typeName}/${method.name}`;
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  expect(response.status).toBe(200);
  return response.text();
}

const everyPartition = topics.flatMap((topic) => Array.from({ length: partitions }, (_, at) => `${topic}/${at}`));
const nameOf = ({ topic, partition }: { topic: string; partition?: number | undefined }) => `${topic}/${partition}`;

test('GetGroup shows each of 300 members and 60,000 partitions once, in pages that a client takes', async () => {
  const pages = await pagesOf(GroupService.method.getGroup, { group });
  expect(pages.length).toBeGreaterThan(60);
  for (const page of pages) expect(page.members.length + page.partitions.length).toBeLessThanOrEqual(1_000);
  const ids = pages.flatMap((page) => page.members.map(({ memberId }) => memberId));
  expect(new Set(ids).size).toBe(members);
  expect(pages.flatMap((page) => page.partitions.map(nameOf))).toEqual(everyPartition);
  const held = new Set(pages.flatMap((page) => page.partitions.map(({ memberId }) => memberId)));
  expect(held).toEqual(new Set(ids));
  expect(pages.at(-1)!.group).toMatchObject({ name: group, memberCount: members, topicCount: topics.length });
}, 120_000);

test('ListMembers shows each of 300 members with its partitions, in pages that a client takes', async () => {
  const pages = await pagesOf(GroupService.method.listMembers, { group, pageSize: 1_000 });
  expect(pages.length).toBeGreaterThan(1);
  const shown = pages.flatMap((page) => page.members);
  expect(shown.map(({ memberId }) => memberId)).toEqual(shown.map(({ memberId }) => memberId).toSorted());
  expect(shown.flatMap((member) => member.partitions.map(nameOf)).toSorted()).toEqual(everyPartition.toSorted());
}, 120_000);

test('a member of 60,000 partitions shows the first 1,000 and their number, and SyncGroup has all of them', async () => {
  const [page] = await pagesOf(GroupService.method.listMembers, { group: alone });
  const [member] = page!.members;
  expect(member).toMatchObject({ partitionCount: everyPartition.length, revokingCount: 0 });
  expect(member!.partitions.map(nameOf)).toEqual(everyPartition.slice(0, limits.listedPartitionsMax));
  const { memberId } = member!;
  const synced = await pagesOf(GroupService.method.syncGroup, { group: alone, memberId });
  expect(synced.length).toBeGreaterThan(3);
  expect(synced.flatMap((one) => one.partitions.map(nameOf))).toEqual(everyPartition);
}, 120_000);

test('the pages of an assignment that changes meanwhile are rejected, because they would not fit together', async () => {
  const [member] = (await site.call(GroupService.method.listMembers, { group: alone })).members;
  const { memberId } = member!;
  const { nextPageToken } = await site.call(GroupService.method.syncGroup, { group: alone, memberId });
  await join(alone, 'another');
  const refusal = await site.refusal(GroupService.method.syncGroup, {
    group: alone,
    memberId,
    pageToken: nextPageToken,
  });
  expect(refusal).toMatchObject({ code: 'ABORTED', reason: 'PAGE_STALE' });
}, 120_000);

test('GetTopic shows each of 10,000 partitions once', async () => {
  const pages = await pagesOf(TopicService.method.getTopic, { name: topics[0]! });
  expect(pages.length).toBe(10);
  const shown = pages.flatMap((page) => page.partitions.map(({ partition }) => partition));
  expect(shown).toEqual(Array.from({ length: partitions }, (_, at) => at));
}, 120_000);
