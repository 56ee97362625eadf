import type { DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService, type JoinGroupResponse } from '../../../gen/millrace/v1/group_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import type { Site } from '../../broker/site.ts';
import type { Scene } from './largest-requests.ts';

/** How much a broker has in it whose answers are measured. */
export interface Amounts {
  /** Topics of 1,000 partitions, which groups read. */
  readonly wideTopics: number;
  /** Members of one group. */
  readonly members: number;
  /** Small topics with long descriptions, and groups that read all of them. */
  readonly smallTopics: number;
  readonly groups: number;
}

type Joined = Pick<JoinGroupResponse, 'memberId' | 'generation'>;

const partitions = 1_000;
const at = (index: number): string => `t${index}`;
const sessionTimeout = { seconds: 1_800n };
const atOnce = 20;

/** Fills a broker. @returns scenes with the names of what is in it. */
export async function prepare(site: Site, amounts: Amounts): Promise<Scene[]> {
  const { wideTopics, members, smallTopics, groups } = amounts;
  const wide = Array.from({ length: wideTopics }, (_, index) => at(index));
  const small = Array.from({ length: smallTopics }, (_, index) => `small-${index}`.padEnd(200, '.'));
  await each(wide, (name) => createTopic(site, name, partitions));
  await each(small, (name) => createTopic(site, name, 1, '\u00fc'.repeat(1_000)));
  await records(site);
  // A reset takes the partitions back, and this member never answers.
  const holding = { group: 'wide', topics: wide, sessionTimeout, rebalanceTimeout: { seconds: 1n } };
  const holder = await call(site, GroupService.method.joinGroup, holding);
  await notes(site, holder, wide);
  const join = (group: string, topics: readonly string[], more: object = {}) =>
    call(site, GroupService.method.joinGroup, { group, topics: [...topics], sessionTimeout, ...more });
  const [many] = await each(Array.from({ length: members }), () => join('many', wide.slice(0, 10)));
  await each(Array.from({ length: groups }), (_, index) => join(`group-${index}`, small.slice(0, 100)));
  const planning = { clientAssignors: ['mine'], metadata: Buffer.alloc(60_000) };
  const planners = await each(Array.from({ length: 40 }), () => join('planned', wide, planning));
  const leader = planners.find(({ memberId, leaderId }) => memberId === leaderId) ?? planners[0]!;
  return scenesOf(holder, many!, leader, small[0]!);
}

/** What requests are about, with the names of what is in the broker. */
export function scenesOf(holder: Joined, many: Joined, leader: Joined, smallTopic: string): Scene[] {
  const places = {
    topic: (index: number) => at(Math.floor(index / partitions)),
    partition: (index: number) => index % partitions,
  };
  const common: Scene = {
    ...places,
    ...{ name: 't0', host: '', topics: at, page_size: 1_000, max_records: 10_000, max_bytes: '3670016' },
    ...{ offset: '0', offsets: (index: number) => `${2 * index}`, first: (index: number) => `${3 * index}` },
    ...{
      last: (index: number) => `${3 * index + 1}`,
      'Topic.partitions': partitions,
      'AddPartitionsRequest.partitions': partitions,
    },
    ...{
      'CreateTopicRequest.topic': true,
      'UpdateTopicRequest.topic': true,
      'UpdateTopicRequest.update_mask': 'description',
      'UpdateSubscriptionRequest.subscription': true,
      'UpdateSubscriptionRequest.update_mask': 'neverDies',
      'ResetOffsetsRequest.earliest': {},
      force: true,
    },
    ...{ dry_run: true, file_containing_symbol: 'millrace.v1.BrokerService', 'FetchOffsetsRequest.page_size': 10_000 },
    'StartPosition.Offsets.offset': '0',
    'SyncGroupRequest.wait': '1s',
    'leaf up_to_offset': '0',
  };
  const of = (group: string, member: Joined | null): Scene => ({
    ...common,
    group,
    ...(member !== null && { member_id: member.memberId, generation: String(member.generation ?? 1n) }),
  });
  let made = 0;
  const newName = (): string => `new-${made++}`;
  return [
    { ...of('wide', holder), 'Topic.name': newName, 'CreateSubscriptionRequest.group': newName, dry_run: false },
    of('many', many),
    of('planned', leader),
    { ...of('group-0', null), topic: 'records', partition: 0, name: smallTopic, topics: 'records' },
    { ...common, group: 'pulled-1', topic: 'records', partition: 1, topics: 'records' },
    { ...common, group: 'pulled-2', topic: 'records', partition: 2, topics: 'records' },
  ];
}

async function createTopic(site: Site, name: string, count: number, description = ''): Promise<void> {
  await call(site, TopicService.method.createTopic, { topic: { name, partitions: count, description } });
}

/** Small ones in partition 0, large ones in partition 1, and in 2 those that grow most in JSON. */
async function records(site: Site): Promise<void> {
  await createTopic(site, 'records', 3);
  const small = Array.from({ length: 10_000 }, (_, index) => ({
    key: `k${index}`,
    value: Buffer.alloc(280, 'x'),
    headers: { a: 'b' },
  }));
  const large = Array.from({ length: 3 }, () => ({ value: Buffer.alloc(1_048_000) }));
  await call(site, BrokerService.method.publish, { topic: 'records', partition: 0, records: small });
  const growing = Array.from({ length: 3_000 }, () => ({ key: '\u0001'.repeat(1_000) }));
  await call(site, BrokerService.method.publish, { topic: 'records', partition: 1, records: large });
  await call(site, BrokerService.method.publish, { topic: 'records', partition: 2, records: growing });
}

/** Notes of 4 KiB on partitions of the group, as many as two answers can have. */
async function notes(site: Site, holder: Joined, topics: readonly string[]): Promise<void> {
  for (const topic of topics.slice(0, 2)) {
    const offsets = Array.from({ length: partitions }, (_, partition) => ({
      ...{ topic, partition, offset: 0n },
      metadata: 'n'.repeat(4_000),
    }));
    const { memberId, generation } = holder;
    await call(site, GroupService.method.commitOffsets, {
      group: 'wide',
      memberId,
      generation: generation ?? 0n,
      offsets,
    });
  }
}

function call<M extends DescMethodUnary>(
  site: Site,
  method: M,
  request: MessageInitShape<M['input']> & object,
): Promise<MessageShape<M['output']>> {
  return site.call(method, request);
}

async function each<T, R>(items: readonly T[], run: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let first = 0; first < items.length; first += atOnce) {
    const some = items.slice(first, first + atOnce);
    results.push(...(await Promise.all(some.map((item, index) => run(item, first + index)))));
  }
  return results;
}
