import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../../../bench/support/timing.ts';
import { GroupService, GroupState, RebalanceReason } from '../../../gen/millrace/v1/group_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { Member } from '../member.ts';
import { Relay } from '../relay.ts';
import { Site } from '../site.ts';

/**
 * What an operator sees of a group at work, over plain HTTP and in the names that the RPCs have.
 */

let site: Site;
/** Its connections can be cut. */
let relay: Relay;
const members: Member[] = [];

beforeAll(async () => {
  site = await Site.open({ logLevel: 'info' });
  relay = await Relay.open(site.broker.grpcPort);
  await site.createTopic('orders', 4);
  await site.createTopic('invoices', 1);
});

afterAll(async () => {
  for (const member of members) member.leave();
  await relay.close();
  await site.close();
});

interface Shown {
  readonly group: Record<string, unknown>;
  readonly members: readonly { readonly memberId: string; readonly partitions: readonly { partition: number }[] }[];
  readonly partitions: readonly (Record<string, unknown> & { readonly partition: number })[];
  readonly rebalances: readonly {
    readonly generation: string;
    readonly causes: readonly { readonly reason: string; readonly memberId: string }[];
    readonly assignedCount: number;
    readonly revokedCount: number;
    readonly completed: boolean;
  }[];
}

async function get(path: string): Promise<readonly [status: number, body: unknown]> {
  const response = await fetch(site.broker.httpUrl + path);
  return [response.status, await response.json()];
}

async function shown(): Promise<Shown> {
  const [status, body] = await get('/consumer-groups/billing');
  expect(status, JSON.stringify(body)).toBe(200);
  return body as Shown;
}

function join(group: string, topics = ['orders'], address = site.broker.grpcAddress): Member {
  members.push(new Member(address, { group, topics }));
  return members.at(-1)!;
}

test('the three paths of /consumer-groups show two members and the rebalance between them', async () => {
  await site.publish('orders', 0, ['a', 'b', 'c']);
  const first = await join('billing').untilReceived(3);
  await first.untilPartitions(0, 1, 2, 3);
  expect(await first.ack(0, { upToOffset: 0n })).toEqual(['OK', 1n]);
  const second = join('billing', ['orders'], relay.address);
  await waitFor('two partitions for the second', 10_000, 5, () => second.partitions.length === 2);
  await waitFor('the end of the rebalance', 10_000, 10, async () => (await shown()).rebalances.length === 2);

  const { group, members: both, partitions, rebalances } = await shown();
  const generation = String(second.generation);
  expect(group).toMatchObject({ name: 'billing', state: 'GROUP_STATE_STABLE', generation, memberCount: 2, lag: '2' });
  expect(group['inFlightRecords']).toBe('2');
  const held = new Map(both.map((one) => [one.memberId, one.partitions.map(({ partition }) => partition)]));
  expect(held).toEqual(
    new Map([first, second].sort((a, b) => (a.memberId < b.memberId ? -1 : 1)).map((m) => [m.memberId, m.partitions])),
  );
  for (const { partition, memberId } of partitions) expect(held.get(memberId as string)).toContain(partition);
  expect(partitions[0]).toMatchObject({ committedOffset: '1', highWatermark: '3', lag: '2', inFlightRecords: 2 });
  const age = Number.parseFloat(partitions[0]!['oldestUnackedAge'] as string);
  expect(age).toBeGreaterThan(0);
  expect(age).toBeLessThan(60);
  expect(partitions[1]).not.toHaveProperty('oldestUnackedAge');

  const cause = (member: Member) => [{ reason: 'REBALANCE_REASON_MEMBER_JOINED', memberId: member.memberId, count: 1 }];
  expect(rebalances).toMatchObject([
    { generation, causes: cause(second), memberCount: 2, assignedCount: 2, revokedCount: 2, completed: true },
    { causes: cause(first), memberCount: 1, assignedCount: 4, revokedCount: 0, completed: true },
  ]);

  const [status, assignments] = await get('/consumer-groups/billing/assignments');
  expect([status, assignments]).toEqual([200, { members: both, nextPageToken: '', generation }]);
  expect(await get('/consumer-groups')).toEqual([200, { groups: [group], nextPageToken: '' }]);
});

test('the RPCs show the same groups as the paths of /consumer-groups', async () => {
  const { rebalances } = await site.call(GroupService.method.listRebalances, { group: 'billing' });
  expect(rebalances.map(({ causes }) => causes[0]!.reason)).toEqual([
    RebalanceReason.MEMBER_JOINED,
    RebalanceReason.MEMBER_JOINED,
  ]);
  const [newest, oldest] = rebalances.map(({ endTime }) => Number(endTime!.seconds) * 1e9 + endTime!.nanos);
  expect(newest).toBeGreaterThanOrEqual(oldest!);
  const { partitions } = await site.call(GroupService.method.getGroup, { group: 'billing' });
  expect(partitions[0]!.oldestUnackedAge).toBeDefined();
  const { partitions: ofOne } = await site.call(SubscriptionService.method.getSubscription, {
    group: 'billing',
    topic: 'orders',
  });
  expect(ofOne[0]!.oldestUnackedAge).toBeDefined();
  expect(ofOne.map(({ memberId }) => memberId)).toEqual(partitions.map(({ memberId }) => memberId));
});

test('a page of members continues after the last page', async () => {
  const { memberId, nextPageToken } = await page('');
  const last = await page(nextPageToken);
  expect([memberId, last.memberId]).toEqual([members[0]!.memberId, members[1]!.memberId].sort());
  expect(last.nextPageToken).toBe('');
});

async function page(pageToken: string): Promise<{ memberId: string; nextPageToken: string }> {
  const { members: one, nextPageToken } = await site.call(GroupService.method.listMembers, {
    group: 'billing',
    pageSize: 1,
    pageToken,
  });
  expect(one).toHaveLength(1);
  return { memberId: one[0]!.memberId, nextPageToken };
}

test('groups are listed by state and by topic, page by page', async () => {
  await join('archive', ['invoices']).untilPartitions(0);
  const names = async (query: string): Promise<string[]> => {
    const [status, body] = await get(`/consumer-groups?${query}`);
    expect(status, JSON.stringify(body)).toBe(200);
    return (body as { groups: { name: string }[] }).groups.map(({ name }) => name);
  };
  await site.call(SubscriptionService.method.createSubscription, { group: 'nightly', topic: 'invoices' });
  expect(await names('state=STABLE')).toEqual(['archive', 'billing']);
  expect(await names('topic=orders')).toEqual(['billing']);
  expect(await names('topic=invoices&state=STABLE')).toEqual(['archive']);
  expect(await names('topic=invoices&state=EMPTY')).toContain('nightly');
  expect(await names('state=STABLE&pageSize=1')).toEqual(['archive']);
  expect(await names('state=STABLE&pageSize=1&pageToken=archive')).toEqual(['billing']);
  const { groups } = await site.call(GroupService.method.listGroups, { states: [GroupState.STABLE], topic: 'orders' });
  expect(groups.map(({ name }) => name)).toEqual(['billing']);
});

test('the HTTP paths enforce the same limits as the RPCs', async () => {
  expect(await get('/consumer-groups?pageSize=1001')).toMatchObject([400, { reason: 'INVALID_FIELD' }]);
  const eleven = Array.from({ length: 11 }, () => 'state=STABLE').join('&');
  expect(await get(`/consumer-groups?${eleven}`)).toMatchObject([400, { reason: 'INVALID_FIELD' }]);
  expect(await get(`/consumer-groups/${'x'.repeat(201)}`)).toMatchObject([400, { reason: 'INVALID_FIELD' }]);
  expect(await get('/consumer-groups/nobody')).toMatchObject([404, { code: 'not_found', reason: 'GROUP_NOT_FOUND' }]);
  expect(await get('/consumer-groups/nobody/assignments')).toMatchObject([404, { reason: 'GROUP_NOT_FOUND' }]);
  const refused = await site.refusal(GroupService.method.listRebalances, { group: 'nobody' });
  expect(refused).toMatchObject({ code: 'NOT_FOUND', reason: 'GROUP_NOT_FOUND' });
  expect(await site.refusal(GroupService.method.listMembers, { group: 'a b' })).toMatchObject({ fields: ['group'] });
});

test('a rebalance after a lost member names that cause, in the answer and in the log', async () => {
  const [first, second] = members as [Member, Member];
  relay.cut();
  await first.untilPartitions(0, 1, 2, 3);
  await waitFor('the rebalance', 10_000, 10, async () => (await shown()).rebalances.length === 3);
  const [last] = (await shown()).rebalances;
  expect(last).toMatchObject({ memberCount: 1, assignedCount: 2, completed: true });
  expect(last!.causes).toMatchObject([{ reason: 'REBALANCE_REASON_STREAM_LOST', memberId: second.memberId }]);
  const lines = (): Record<string, unknown>[] =>
    site.broker
      .output()
      .split('\n')
      .filter((line) => line.includes('"rebalanced"') && line.includes('"group":"billing"'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  await waitFor('three lines', 5_000, 10, () => lines().length === 3);
  expect(lines()[2]).toMatchObject({
    group: 'billing',
    generation: Number(last!.generation),
    causes: [{ reason: 'STREAM_LOST', memberId: second.memberId }],
    durationMs: expect.any(Number),
    members: 1,
    assigned: 2,
    revoked: 0,
    completed: true,
    msg: 'rebalanced',
  });
});
