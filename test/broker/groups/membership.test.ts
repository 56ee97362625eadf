import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import {
  GroupService,
  GroupState,
  MemberKind,
  type AssignmentPlanSchema,
  type GetGroupResponse,
  type JoinGroupResponse,
} from '../../../gen/millrace/v1/group_pb.js';
import { Member } from '../member.ts';
import { Site } from '../site.ts';

const { heartbeat, subscribe, pull } = BrokerService.method;
const { joinGroup, syncGroup, leaveGroup, getGroup } = GroupService.method;

/** Refuses to decide for a group with a member whose metadata asks for it. */
const picky = `
export const name = 'picky';
export function assign({ members, topics }) {
  const mood = members.map(({ metadata }) => String.fromCharCode(...metadata)).find((said) => said !== '');
  if (mood === 'throw') throw new Error('not in the mood');
  const all = topics.flatMap(({ topic, partitions }) =>
    Array.from({ length: partitions }, (_, partition) => ({ topic, partition, memberId: members[0].memberId })));
  if (mood === 'twice') return [...all, all[0]];
  if (mood === 'forget') return all.slice(1);
  return all;
}`;

let site: Site;
let directory = '';
const members: Member[] = [];
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-picky-'));
  await writeFile(join(directory, 'picky.mjs'), picky);
  site = await Site.open({ flags: ['--assignor-modules', join(directory, 'picky.mjs')] });
  await site.createTopic('orders', 4);
});
afterAll(async () => {
  for (const member of members) member.leave();
  await site.close();
  await rm(directory, { recursive: true });
});

function streaming(group: string, request: object = {}): Member {
  const made = new Member(site.broker.grpcAddress, { group, topics: ['orders'], ...request });
  members.push(made);
  return made;
}

const classic = (group: string, request: object = {}): Promise<JoinGroupResponse> =>
  site.call(joinGroup, { group, topics: ['orders'], ...request });

/** What must not change when a call is refused. */
async function standing(group: string): Promise<Partial<GetGroupResponse>> {
  const { group: one, members: all } = await site.call(getGroup, { group });
  return { group: one!, members: all.map((member) => ({ ...member, blockedOn: 0 })) };
}

describe('the options of a member are kept and shown', () => {
  test('members by JoinGroup, Subscribe and Pull share one group', async () => {
    const said = { groupInstanceId: 'worker-1', maxPollInterval: { seconds: 60n }, clientId: 'billing-eu' };
    await classic('mixed', { ...said, sessionTimeout: { seconds: 20n }, rebalanceTimeout: { seconds: 5n } });
    await streaming('mixed', { maxPollInterval: { seconds: 90n }, groupInstanceId: 'worker-2' }).untilPartitions(2, 3);
    await site.call(pull, { group: 'mixed', topics: ['orders'], clientId: 'puller', groupInstanceId: 'worker-3' });
    const { members: shown } = await site.call(getGroup, { group: 'mixed' });
    const byInstance = new Map(shown.map((member) => [member.groupInstanceId, member]));
    expect(byInstance.get('worker-1')).toMatchObject({
      clientId: 'billing-eu',
      kind: MemberKind.CLASSIC,
      sessionTimeout: { seconds: 20n },
      rebalanceTimeout: { seconds: 5n },
      maxPollInterval: { seconds: 60n },
      stalled: false,
    });
    // A static member outlives its stream.
    expect(byInstance.get('worker-2')).toMatchObject({ kind: MemberKind.STREAM, sessionTimeout: { seconds: 30n } });
    expect(byInstance.get('worker-3')).toMatchObject({ kind: MemberKind.PULL, maxPollInterval: { seconds: 300n } });
  });
});

describe('bad input is rejected with a reason, and the group stays the same', () => {
  let leader: JoinGroupResponse;
  let follower: JoinGroupResponse;
  let before: Partial<GetGroupResponse>;
  beforeAll(async () => {
    leader = await classic('by-hand', { clientAssignors: ['mine'] });
    follower = await classic('by-hand', { clientAssignors: ['mine'], groupInstanceId: 'second' });
    leader = await classic('by-hand', { clientAssignors: ['mine'], memberId: leader.memberId });
    before = await standing('by-hand');
  });

  const plan = (...partitions: readonly number[]): MessageInitShape<typeof AssignmentPlanSchema> => ({
    members: [
      { memberId: leader.memberId, partitions: partitions.map((partition) => ({ topic: 'orders', partition })) },
    ],
  });

  test.each([
    ['an unknown group', () => ['GROUP_NOT_FOUND', syncGroup, { group: 'nobody', memberId: 'm' }] as const],
    ['an unknown member', () => ['MEMBER_FENCED', syncGroup, { group: 'by-hand', memberId: 'm' }] as const],
    [
      'a heartbeat of an unknown member',
      () => ['MEMBER_FENCED', heartbeat, { group: 'by-hand', memberId: 'm' }] as const,
    ],
    [
      'an unknown member that leaves',
      () => ['MEMBER_FENCED', leaveGroup, { group: 'by-hand', memberId: 'm' }] as const,
    ],
    [
      'a session timeout that is too short',
      () => ['INVALID_FIELD', joinGroup, { sessionTimeout: { seconds: 5n } }] as const,
    ],
    [
      'a session timeout that is too long',
      () => ['INVALID_FIELD', joinGroup, { sessionTimeout: { seconds: 1_801n } }] as const,
    ],
    ['an empty max poll interval', () => ['INVALID_FIELD', joinGroup, { maxPollInterval: {} }] as const],
    [
      'a rule that the other members do not have',
      () => ['INCONSISTENT_PROTOCOLS', joinGroup, { clientAssignors: ['other'] }] as const,
    ],
    ['a member without a rule beside members that assign', () => ['INCONSISTENT_PROTOCOLS', joinGroup, {}] as const],
    ['a stream beside members that assign', () => ['INCONSISTENT_PROTOCOLS', subscribe, {}] as const],
    ['a pull beside members that assign', () => ['INCONSISTENT_PROTOCOLS', pull, {}] as const],
    [
      'the instance id of another member',
      () =>
        [
          'INSTANCE_ID_IN_USE',
          joinGroup,
          { memberId: leader.memberId, groupInstanceId: 'second', clientAssignors: ['mine'] },
        ] as const,
    ],
    [
      'a plan of a member that is not the leader',
      () =>
        [
          'NOT_LEADER',
          syncGroup,
          { memberId: follower.memberId, generation: leader.generation, plan: plan(0, 1, 2, 3) },
        ] as const,
    ],
    [
      'a plan of an older generation',
      () => ['PLAN_STALE', syncGroup, { memberId: leader.memberId, generation: 1n, plan: plan(0, 1, 2, 3) }] as const,
    ],
    [
      'a plan that forgets a partition',
      () =>
        [
          'ASSIGNOR_FAILED',
          syncGroup,
          { memberId: leader.memberId, generation: leader.generation, plan: plan(0, 1, 2) },
        ] as const,
    ],
    [
      'a plan that names a partition twice',
      () =>
        [
          'ASSIGNOR_FAILED',
          syncGroup,
          { memberId: leader.memberId, generation: leader.generation, plan: plan(0, 1, 2, 3, 0) },
        ] as const,
    ],
    [
      'a plan without a generation',
      () => ['INVALID_FIELD', syncGroup, { memberId: leader.memberId, plan: plan(0, 1, 2, 3) }] as const,
    ],
    ['an assignor that nobody has', () => ['ASSIGNOR_UNKNOWN', joinGroup, { assignorName: 'nobody' }] as const],
  ])('%s is rejected with a reason, and the group stays the same', async (_, asked) => {
    const [reason, method, request] = asked();
    const refusal = await site.refusal(method, { group: 'by-hand', topics: ['orders'], ...request });
    expect(refusal.reason).toBe(reason);
    expect(refusal.message.length).toBeGreaterThan(20);
    expect(await standing('by-hand')).toEqual(before);
  });

  test('a group goes on after a wrong plan when the leader sends a right one', async () => {
    const handedIn = { group: 'by-hand', memberId: leader.memberId, generation: leader.generation! };
    const { partitions } = await site.call(syncGroup, { ...handedIn, plan: plan(0, 1, 2, 3) });
    expect(partitions).toHaveLength(4);
    expect((await standing('by-hand')).group?.state).toBe(GroupState.STABLE);
  });
});

describe('an assignor of the operator', () => {
  const says = (mood: string) => ({ assignorName: 'picky', metadata: Buffer.from(mood) });

  test.each([
    ['throw', 'not in the mood'],
    ['twice', 'partition 0'],
    ['forget', 'partition 0'],
  ])('an assignor that fails (%s) rejects the joining member, and the others go on', async (mood, message) => {
    const group = `picky-${mood}`;
    const start = { position: { case: 'latest', value: {} } };
    const first = await streaming(group, { start, ...says('') }).untilPartitions(0, 1, 2, 3);
    const before = await standing(group);
    const refusal = await site.refusal(joinGroup, { group, topics: ['orders'], ...says(mood) });
    expect(refusal.reason).toBe('ASSIGNOR_FAILED');
    expect(refusal.message).toContain(message);
    expect(await standing(group)).toEqual(before);
    const [offset] = await site.publish('orders', 0, [`for ${group}`]);
    await first.untilReceived(1);
    expect(first.received.at(-1)).toMatchObject({ offset: Number(offset) });
  });
});
