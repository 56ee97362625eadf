import { create, type DescMessage, type MessageInitShape } from '@bufbuild/protobuf';
import {
  AckRequestSchema,
  Assignor,
  HeartbeatRequestSchema,
  PullRequestSchema,
  SubscribeRequestSchema,
} from '../../../gen/millrace/v1/broker_pb.js';
import {
  DeleteGroupRequestSchema,
  GetGroupRequestSchema,
  GroupState,
  JoinGroupRequestSchema,
  LeaveGroupRequestSchema,
  ListGroupsRequestSchema,
  ListMembersRequestSchema,
  ListRebalancesRequestSchema,
  SyncGroupRequestSchema,
} from '../../../gen/millrace/v1/group_pb.js';
import {
  CommitOffsetsRequestSchema,
  FetchOffsetsRequestSchema,
  ResetOffsetsRequestSchema,
} from '../../../gen/millrace/v1/offset_pb.js';
import { ReadMessagesRequestSchema } from '../../../gen/millrace/v1/message_pb.js';
import {
  CancelSubscriptionRequestSchema,
  CreateSubscriptionRequestSchema,
  GetSubscriptionRequestSchema,
  ListSubscriptionsRequestSchema,
  PauseSubscriptionRequestSchema,
  ResumeSubscriptionRequestSchema,
  SubscriptionState,
  UpdateSubscriptionRequestSchema,
} from '../../../gen/millrace/v1/subscription_pb.js';
import {
  AddPartitionsRequestSchema,
  CreateTopicRequestSchema,
  DeleteTopicRequestSchema,
  GetTopicRequestSchema,
  GetTopicStorageRequestSchema,
  ListTopicsRequestSchema,
  UpdateTopicRequestSchema,
} from '../../../gen/millrace/v1/topic_pb.js';
import type { Validation } from '../../../src/rpc/validation/validation.ts';

type Call = Exclude<keyof Validation, 'ruled'>;

export interface ViolatingSample {
  readonly call: Call;
  readonly request: never;
  /** What the violation names. */
  readonly path: string;
}

/**
 * Requests that are wrong in one field each: for every rule one, for every way to be wrong of the
 * tricky ones.
 */
export const violatingSamples: ViolatingSample[] = [];

const planned = (count: number) => {
  const partitions = Array.from({ length: count }, (_, partition) => ({ topic: 'orders', partition }));
  return { memberId: 'm', partitions };
};

const long = 'x'.repeat(261);
const past = { seconds: -1n };
const tooPrecise = { seconds: 10n, nanos: 1_000_000_000 };
const mixedSigns = { seconds: 10n, nanos: -1 };
const forever = { seconds: 1_000_000n };
const tooFar = BigInt(Number.MAX_SAFE_INTEGER) + 1n;

/** @param wrong path of the wrong field → what to change in the good request. */
function samples<D extends DescMessage>(
  call: Call,
  desc: D,
  good: MessageInitShape<D>,
  wrong: readonly (readonly [path: string, change: object])[],
): void {
  for (const [path, change] of wrong) {
    const request = create(desc, { ...good, ...change });
    violatingSamples.push({ call, request: request as never, path });
  }
}

const offsets = (value: object) => ({ start: { position: { case: 'offset', value } } }) as const;
const starts = [
  ['start.offset.offset', offsets({ offset: -1n })],
  ['start.offset.offset', offsets({ offset: tooFar })],
  ['start.offset.partitions', offsets({ partitions: Array.from({ length: 1_001 }, () => ({})) })],
  ['start.offset.partitions[0].partition', offsets({ partitions: [{ offset: 0n }] })],
  ['start.offset.partitions[0].partition', offsets({ partitions: [{ partition: -1, offset: 0n }] })],
  ['start.offset.partitions[0].lane', offsets({ partitions: [{ partition: 0, lane: -1, offset: 0n }] })],
  ['start.offset.partitions[0].offset', offsets({ partitions: [{ partition: 0 }] })],
  ['start.offset.partitions[0].offset', offsets({ partitions: [{ partition: 0, offset: -1n }] })],
  [
    'start.offset.partitions[1]',
    offsets({
      partitions: [
        { partition: 4, offset: 0n },
        { partition: 4, offset: 1n },
      ],
    }),
  ],
  ['start.timestamp', { start: { position: { case: 'timestamp', value: { nanos: -1 } } } }],
  ['start.timestamp', { start: { position: { case: 'timestamp', value: { seconds: 253_402_300_800n } } } }],
] as const;

const sessionTimeouts = [
  ['session_timeout', { sessionTimeout: { seconds: 5n, nanos: 999_999_999 } }],
  ['session_timeout', { sessionTimeout: { seconds: 1_800n, nanos: 1 } }],
  ['session_timeout', { sessionTimeout: tooPrecise }],
  ['session_timeout', { sessionTimeout: mixedSigns }],
] as const;

const rebalanceTimeouts = [
  ['rebalance_timeout', { rebalanceTimeout: { nanos: 999_999_999 } }],
  ['rebalance_timeout', { rebalanceTimeout: { seconds: 3_601n } }],
] as const;

const topicLists = [
  ['topics', { topics: [] }],
  ['topics', { topics: Array.from({ length: 101 }, (_, index) => `t${index}`) }],
  ['topics[1]', { topics: ['orders', 'or ders'] }],
] as const;

const names = [
  ['group', { group: '' }],
  ['group', { group: 'a/b' }],
  ['group', { group: 'x'.repeat(201) }],
] as const;

const clients = [
  ['client_id', { clientId: 'größe' }],
  ['member_id', { memberId: long }],
] as const;

const instances = [
  ['group_instance_id', { groupInstanceId: 'a b' }],
  ['group_instance_id', { groupInstanceId: 'x'.repeat(201) }],
  ['max_poll_interval', { maxPollInterval: { nanos: 999_999_999 } }],
  ['max_poll_interval', { maxPollInterval: { seconds: 86_401n } }],
] as const;

const metadata = [['metadata', { metadata: new Uint8Array(65_537) }]] as const;

const assignors = [
  ['assignor', { assignor: 9 as never }],
  ['assignor_name', { assignorName: 'zone aware' }],
  ['assignor_name', { assignorName: 'x'.repeat(201) }],
  ['assignor_name', { assignorName: 'range', assignor: Assignor.RANGE }],
] as const;

const pages = [
  ['page_size', { pageSize: -1 }],
  ['page_size', { pageSize: 1_001 }],
  ['page_token', { pageToken: 'x'.repeat(401) }],
  ['page_token', { pageToken: 'no token' }],
] as const;

samples('subscribe', SubscribeRequestSchema, { group: 'billing', topics: ['orders'] }, [
  ...names,
  ...topicLists,
  ...starts,
  ...clients,
  ...sessionTimeouts,
  ...rebalanceTimeouts,
  ['max_in_flight_records', { maxInFlightRecords: 10_001 }],
  ['max_in_flight_records', { maxInFlightRecords: -1 }],
  ['max_in_flight_bytes', { maxInFlightBytes: 67_108_865n }],
  ['max_in_flight_bytes', { maxInFlightBytes: -1n }],
  ...assignors,
  ...instances,
  ...metadata,
]);

samples('pull', PullRequestSchema, { group: 'billing', topics: ['orders'] }, [
  ...names,
  ...topicLists,
  ...starts,
  ...clients,
  ...sessionTimeouts,
  ['max_records', { maxRecords: 10_001 }],
  ['max_bytes', { maxBytes: 3_670_017n }],
  ['wait', { wait: past }],
  ['wait', { wait: { seconds: 60n, nanos: 1_000_000 } }],
  ...instances,
]);

const entry = { topic: 'orders', partition: 0, offsets: [0n] };
const acks = (...changes: object[]) => ({ acks: changes.map((change) => ({ ...entry, ...change })) });
samples('ack', AckRequestSchema, { group: 'billing', memberId: 'm', generation: 1n, acks: [entry] }, [
  ...names,
  ['member_id', { memberId: '' }],
  ['member_id', { memberId: long }],
  ['generation', { generation: -1n }],
  ['generation', { generation: undefined as never }],
  ['acks', { acks: [] }],
  ['acks', acks(...Array.from({ length: 10_001 }, () => ({})))],
  ['acks[1].topic', acks({}, { topic: '' })],
  ['acks[0].partition', acks({ partition: -1 })],
  ['acks[1].partition', acks({}, { partition: undefined })],
  ['acks[0].lane', acks({ lane: -1 })],
  ['acks[0].action', acks({ action: 77 })],
  ['acks[0].up_to_offset', acks({ offsets: [], upToOffset: -1n })],
  ['acks[0].offsets[1]', acks({ offsets: [4n, -4n] })],
  ['acks[0].offsets', acks({ offsets: Array.from({ length: 10_001 }, () => 0n) })],
  ['acks[1].offsets', acks({}, { offsets: Array.from({ length: 10_000 }, () => 0n) })],
  ['acks[0].ranges', acks({ offsets: [], ranges: Array.from({ length: 1_001 }, () => ({})) })],
  ['acks[0].ranges[0].first', acks({ offsets: [], ranges: [{ last: 1n }] })],
  ['acks[0].ranges[0].first', acks({ offsets: [], ranges: [{ first: -1n, last: 1n }] })],
  ['acks[0].ranges[0].last', acks({ offsets: [], ranges: [{ first: 1n }] })],
  ['acks[0].ranges[0].last', acks({ offsets: [], ranges: [{ first: 2n, last: 1n }] })],
  ['acks[0]', acks({ offsets: [] })],
  ['acks[0]', acks({ upToOffset: 4n })],
  ['acks[1]', acks({}, { ranges: [{ first: 1n, last: 2n }] })],
  ['acks[0].delay', acks({ delay: past })],
  ['acks[0].delay', acks({ delay: forever })],
  ['acks[0].error', acks({ error: 'x'.repeat(1_001) })],
  ['acks[0].error', acks({ error: 'a\0b' })],
]);

const revoked = (...partitions: { topic?: string; partition?: number; lane?: number }[]) => ({ revoked: partitions });
samples('heartbeat', HeartbeatRequestSchema, { group: 'billing', memberId: 'm', generation: 1n }, [
  ...names,
  ['member_id', { memberId: '' }],
  ['generation', { generation: -1n }],
  ['revoked', revoked(...Array.from({ length: 10_001 }, () => ({})))],
  ['revoked[0].topic', revoked({ partition: 1 })],
  ['revoked[0].partition', revoked({ topic: 'orders', partition: -1 })],
  ['revoked[0].partition', revoked({ topic: 'orders' })],
  ['revoked[0].lane', revoked({ topic: 'orders', partition: 0, lane: 0 })],
  ['generation', { ...revoked({ topic: 'orders', partition: 0 }), generation: undefined as never }],
]);

samples('joinGroup', JoinGroupRequestSchema, { group: 'billing', topics: ['orders'] }, [
  ...names,
  ...topicLists,
  ...starts,
  ...clients,
  ...sessionTimeouts,
  ...rebalanceTimeouts,
  ['topics', { topics: [], memberId: 'm' }],
  ...assignors,
  ...instances,
  ...metadata,
  ['client_assignors[1]', { clientAssignors: ['mine', ''] }],
  ['client_assignors', { clientAssignors: new Array<string>(11).fill('mine') }],
]);

samples('syncGroup', SyncGroupRequestSchema, { group: 'billing', memberId: 'm' }, [
  ...names,
  ['member_id', { memberId: '' }],
  ['known_generation', { knownGeneration: -1n }],
  ['wait', { wait: { seconds: 301n } }],
  ['generation', { generation: -1n, plan: {} }],
  ['generation', { plan: {} }],
  ['plan.members[0].member_id', { generation: 1n, plan: { members: [{ memberId: '' }] } }],
  ['plan.members[0].partitions[0].topic', { generation: 1n, plan: { members: [{ memberId: 'm', partitions: [{}] }] } }],
  [
    'plan.members[0].partitions[0].partition',
    { generation: 1n, plan: { members: [{ memberId: 'm', partitions: [{ topic: 'orders' }] }] } },
  ],
  ['plan', { generation: 1n, plan: { members: [planned(60_000), planned(60_000)] } }],
  ['plan.members[0].partitions', { generation: 1n, plan: { members: [planned(100_001)] } }],
  ['plan.members', { generation: 1n, plan: { members: new Array<object>(100_001).fill({ memberId: 'm' }) } }],
]);

const leaving = [...names, ['member_id', { memberId: '' }]] as const;
samples('leaveGroup', LeaveGroupRequestSchema, { group: 'billing', memberId: 'm' }, leaving);
samples('getGroup', GetGroupRequestSchema, {}, names);
samples('deleteGroup', DeleteGroupRequestSchema, {}, names);
samples('listGroups', ListGroupsRequestSchema, {}, [
  ...pages,
  ['states', { states: Array.from({ length: 11 }, () => GroupState.STABLE) }],
  ['states[1]', { states: [GroupState.STABLE, GroupState.UNSPECIFIED] }],
  ['states[0]', { states: [99 as never] }],
  ['topic', { topic: 'a b' }],
]);
samples('listMembers', ListMembersRequestSchema, { group: 'billing' }, [...names, ...pages]);
samples('listRebalances', ListRebalancesRequestSchema, {}, names);

const commit = { topic: 'orders', partition: 0, offset: 1n };
const commits = (...changes: object[]) => ({ offsets: changes.map((change) => ({ ...commit, ...change })) });
const ofMember = { group: 'billing', memberId: 'm', generation: 1n, offsets: [commit] };
samples('commitOffsets', CommitOffsetsRequestSchema, ofMember, [
  ...names,
  ['member_id', { memberId: long }],
  ['generation', { generation: -1n }],
  ['generation', { generation: undefined as never }],
  ['generation', { memberId: '' }],
  ['offsets', { offsets: [] }],
  ['offsets', commits(...Array.from({ length: 10_001 }, () => ({})))],
  ['offsets[1].topic', commits({}, { topic: '' })],
  ['offsets[0].partition', commits({ partition: -1 })],
  ['offsets[1].partition', commits({}, { partition: undefined })],
  ['offsets[0].lane', commits({ lane: -1 })],
  ['offsets[0].offset', commits({ offset: undefined })],
  ['offsets[0].offset', commits({ offset: -1n })],
  ['offsets[0].offset', commits({ offset: tooFar })],
  ['offsets[0].metadata', commits({ metadata: 'x'.repeat(4_097) })],
  ['offsets[0].metadata', commits({ metadata: 'é'.repeat(2_049) })],
  ['offsets[0].metadata', commits({ metadata: 'a\0b' })],
  ['offsets[0].metadata', commits({ metadata: '\ud800' })],
]);

const partitionLists = [
  ['partitions', { partitions: Array.from({ length: 10_001 }, () => ({ topic: 'orders' })) }],
  ['partitions[0].topic', { partitions: [{ partition: 1 }] }],
  ['partitions[0].partition', { partitions: [{ topic: 'orders', partition: -1 }] }],
  ['partitions[0].partition', { partitions: [{ topic: 'orders' }] }],
  ['partitions[0].lane', { partitions: [{ topic: 'orders', partition: 0, lane: -1 }] }],
] as const;
samples('fetchOffsets', FetchOffsetsRequestSchema, { group: 'billing' }, [
  ...names,
  ...partitionLists,
  ['page_size', { pageSize: -1 }],
  ['page_size', { pageSize: 10_001 }],
  ['page_token', { pageToken: 'x'.repeat(401) }],
  ['page_token', { pageToken: 'no token' }],
]);

const earliest = { case: 'earliest', value: {} } as const;
samples('resetOffsets', ResetOffsetsRequestSchema, { group: 'billing', to: earliest }, [
  ...names,
  ...partitionLists,
  ['topics', { topics: Array.from({ length: 1_001 }, (_, index) => `t${index}`) }],
  ['topics[1]', { topics: ['orders', 'or ders'] }],
  ['to', { to: { case: undefined } }],
  ['offset', { to: { case: 'offset', value: -1n } }],
  ['offset', { to: { case: 'offset', value: tooFar } }],
  ['timestamp', { to: { case: 'timestamp', value: { nanos: -1 } } }],
  ['shift_by', { to: { case: 'shiftBy', value: tooFar } }],
  ['shift_by', { to: { case: 'shiftBy', value: -tooFar } }],
]);

const orders = { name: 'orders', partitions: 3 };
const window = (idempotencyWindow: object) => ({ topic: { ...orders, idempotencyWindow } });
const tooShort = { seconds: 59n, nanos: 999_999_999 };
const tooLong = { seconds: 3_153_600_000n, nanos: 1_000_000 };
const kept = (retention: object) => ({ topic: { ...orders, retention } });
const unsubscribed = (policy: object) => ({ topic: { ...orders, zeroSubscriptions: { policy } } });
const timesOf = (retention: (time: object) => object, path: string) =>
  [tooShort, tooLong, tooPrecise, mixedSigns, past].map((time) => [path, retention(time)] as const);
const changeable = [
  ['topic', { topic: undefined as never }],
  ['topic.name', { topic: { name: '' } }],
  ['topic.idempotency_window', window({ nanos: 1 })],
  ['topic.idempotency_window', window({ seconds: 86_401n })],
  ['topic.description', { topic: { ...orders, description: 'x'.repeat(1_001) } }],
  ['topic.description', { topic: { ...orders, description: '\0' } }],
  ...timesOf((value) => kept({ completion: { case: 'afterCompletion', value } }), 'topic.retention.after_completion'),
  ...timesOf((value) => kept({ excusedKeepFor: value }), 'topic.retention.excused_keep_for'),
  ...timesOf((value) => unsubscribed({ case: 'keepFor', value }), 'topic.zero_subscriptions.keep_for'),
  ...timesOf((value) => kept({ maxAge: value }), 'topic.retention.max_age'),
  ['topic.retention.max_bytes', kept({ maxBytes: 268_435_455n })],
  ['topic.retention.max_bytes', kept({ maxBytes: 0n })],
  ['topic.retention.max_bytes', kept({ maxBytes: -1n })],
  ['topic.retention.max_bytes', kept({ maxBytes: 2n ** 53n })],
  ['topic.retention.keep_forever', kept({ completion: { case: 'keepForever', value: false } })],
  ['topic.zero_subscriptions.refuse_publish', unsubscribed({ case: 'refusePublish', value: false })],
] as const;
samples('createTopic', CreateTopicRequestSchema, { topic: orders }, [
  ...changeable,
  ['topic.semantics', { topic: { ...orders, semantics: 5 as never } }],
  ['topic.partitions', { topic: { ...orders, partitions: 1_001 } }],
  ['topic.partitions', { topic: { ...orders, partitions: -1 } }],
]);

const masked = (...paths: string[]) => ({ updateMask: { paths } });
const everything = masked('idempotency_window', 'description', 'retention', 'zero_subscriptions');
const afterCompletion = kept({ completion: { case: 'afterCompletion', value: { seconds: 60n } } });
const keepForever = kept({ completion: { case: 'keepForever', value: true } });
const keepFor = unsubscribed({ case: 'keepFor', value: { seconds: 60n } });
const refusePublish = unsubscribed({ case: 'refusePublish', value: true });
samples('updateTopic', UpdateTopicRequestSchema, { topic: orders, ...everything }, [
  ...changeable,
  ['update_mask', { updateMask: undefined as never }],
  ['update_mask', masked()],
  ['update_mask', masked('description', 'partitions')],
  ['update_mask', masked('retention.forever')],
  ['update_mask', masked('retention.')],
  ['update_mask', masked('toString')],
  ['update_mask', masked('retention.after_completion', 'retention.keep_forever')],
  ['update_mask', masked('zero_subscriptions.refuse_publish', 'retention', 'zero_subscriptions.keep_for')],
  ['topic.retention.after_completion', { ...keepForever, ...masked('retention.after_completion') }],
  ['topic.retention.keep_forever', { ...afterCompletion, ...masked('retention.keep_forever') }],
  ['topic.retention.keep_forever', { ...afterCompletion, ...masked('retention', 'retention.keep_forever') }],
  ['topic.zero_subscriptions.keep_for', { ...refusePublish, ...masked('zero_subscriptions.keep_for') }],
  ['topic.zero_subscriptions.refuse_publish', { ...keepFor, ...masked('zero_subscriptions.refuse_publish') }],
]);
samples('getTopicStorage', GetTopicStorageRequestSchema, { name: 'orders' }, [['name', { name: 'a b' }], ...pages]);
samples('getTopic', GetTopicRequestSchema, {}, [['name', { name: '' }]]);
samples('addPartitions', AddPartitionsRequestSchema, orders, [
  ['name', { name: '' }],
  ['name', { name: 'a b' }],
  ['partitions', { partitions: 0 }],
  ['partitions', { partitions: -1 }],
  ['partitions', { partitions: 1_001 }],
]);
samples('listTopics', ListTopicsRequestSchema, {}, pages);
samples('deleteTopic', DeleteTopicRequestSchema, {}, [['name', { name: 'a b' }]]);

const claim = { group: 'billing', topic: 'orders' };
const claims = [...names, ['topic', { topic: '' }]] as const;
const deaths = (at: string, change: (death: object) => object) =>
  [
    [`${at}dead_after`, { case: 'deadAfter', value: { seconds: 29n, nanos: 999_999_999 } }],
    [`${at}dead_after`, { case: 'deadAfter', value: { seconds: 31_536_000n, nanos: 1_000_000 } }],
    [`${at}dead_after`, { case: 'deadAfter', value: mixedSigns }],
    [`${at}never_dies`, { case: 'neverDies', value: false }],
  ].map(([path, death]) => [path as string, change(death as object)] as const);
samples('createSubscription', CreateSubscriptionRequestSchema, claim, [
  ...claims,
  ...starts,
  ...deaths('', (death) => ({ death })),
]);
const dying = (death: object) => ({ subscription: { ...claim, death } });
const deadAfter = dying({ case: 'deadAfter', value: { seconds: 30n } });
const neverDies = dying({ case: 'neverDies', value: true });
samples('updateSubscription', UpdateSubscriptionRequestSchema, { subscription: claim, ...masked('dead_after') }, [
  ['subscription', { subscription: undefined as never }],
  ['subscription.group', { subscription: { ...claim, group: 'a b' } }],
  ['subscription.topic', { subscription: { ...claim, topic: '' } }],
  ...deaths('subscription.', dying).map(([path, change]) => {
    return [path, { ...change, ...masked(path.replace('subscription.', '')) }] as const;
  }),
  ['update_mask', { updateMask: undefined as never }],
  ['update_mask', masked()],
  ['update_mask', masked('state')],
  ['update_mask', masked('dead_after', 'never_dies')],
  ['subscription.dead_after', { ...neverDies, ...masked('dead_after') }],
  ['subscription.never_dies', { ...deadAfter, ...masked('never_dies') }],
]);
samples('pauseSubscription', PauseSubscriptionRequestSchema, claim, claims);
samples('resumeSubscription', ResumeSubscriptionRequestSchema, claim, claims);
samples('getSubscription', GetSubscriptionRequestSchema, claim, claims);
samples('cancelSubscription', CancelSubscriptionRequestSchema, claim, claims);
samples('listSubscriptions', ListSubscriptionsRequestSchema, {}, [
  ...pages,
  ['states', { states: Array.from({ length: 11 }, () => SubscriptionState.DEAD) }],
  ['states[1]', { states: [SubscriptionState.ACTIVE, SubscriptionState.UNSPECIFIED] }],
  ['states[0]', { states: [SubscriptionState.CANCELLED] }],
  ['states[0]', { states: [99 as never] }],
  ['group', { group: 'a b' }],
  ['topic', { topic: 'a b' }],
]);

samples('readMessages', ReadMessagesRequestSchema, { topic: 'orders' }, [
  ['topic', { topic: '' }],
  ['partition', { partition: -1 }],
  ['lane', { lane: -1 }],
  ['offset', { from: { case: 'offset', value: -1n } }],
  ['timestamp', { from: { case: 'timestamp', value: { nanos: 1_000_000_000 } } }],
  ['max_records', { maxRecords: 10_001 }],
  ['max_bytes', { maxBytes: 3_670_017n }],
]);
