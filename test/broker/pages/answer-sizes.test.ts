import { ScalarType, type DescField, type DescMessage } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import type { MemberDetails, MemberId } from '../../../src/broker/commands.ts';
import {
  fetchedOffsetBytes,
  groupBytes,
  memberBytes,
  partitionInfoBytes,
  partitionStatusBytes,
  subscriptionBytes,
  topicBytes,
  topicPartitionBytes,
} from '../../../src/broker/entry-bytes.ts';
import { keptByBytes, segmentDropBytes, storedSegmentBytes } from '../../../src/broker/pages/storage-bytes.ts';
import { limits } from '../../../src/limits/limits.ts';
import { services } from '../../../src/rpc/handlers/handlers.ts';

/**
 * Every answer and every event fits into a message of 3.5 MiB, in protobuf and in JSON. The tables
 * bound each text and each list of them; a new field without a bound fails.
 */

/** The most bytes of a text of this name. JSON may need six for one character of a client. */
const texts: Readonly<Record<string, number>> = {
  topic: limits.nameCharsMax,
  topics: limits.nameCharsMax,
  group: limits.nameCharsMax,
  name: limits.nameCharsMax,
  client_id: limits.nameCharsMax,
  group_instance_id: limits.nameCharsMax,
  assignor_name: limits.nameCharsMax,
  member_id: limits.memberIdCharsMax,
  leader_id: limits.memberIdCharsMax,
  /** An IPv6 address with its zone. */
  host: 64,
  description: 6 * limits.descriptionCharsMax,
  next_page_token: limits.pageTokenCharsMax,
};

/**
 * So many entries; or pages, whose lists share `pageBytesMax`; or records, or the parts of a list
 * that a stream sends in several events, which are bounded in protobuf.
 */
type Bound = { readonly entries: number } | 'page' | 'records' | 'parts';

const lists: Readonly<Record<string, Bound>> = {
  'PublishResponse.results': { entries: limits.publishRecordsMax },
  'PublishStreamResponse.results': { entries: limits.publishRecordsMax },
  'HeartbeatResponse.revoking': { entries: limits.heartbeatPartitionsMax },
  'AckResponse.results': { entries: limits.ackEntriesMax },
  'CommitOffsetsResponse.results': { entries: limits.commitOffsetsMax },
  'ResetOffsetsResponse.offsets': { entries: limits.resetPartitionsMax },
  'ListRebalancesResponse.rebalances': { entries: limits.rebalancesKept },
  /** One for each reason. */
  'Rebalance.causes': { entries: 11 },
  'Group.topics': { entries: limits.groupTopicsMax },
  'AssignmentTask.topics': { entries: limits.groupTopicsMax },
  'Idle.partitions': { entries: 100 },

  'GetGroupResponse.members': 'page',
  'GetGroupResponse.partitions': 'page',
  'ListGroupsResponse.groups': 'page',
  'ListMembersResponse.members': 'page',
  'FetchOffsetsResponse.offsets': 'page',
  'SyncGroupResponse.partitions': 'page',
  'SyncGroupResponse.revoking': 'page',
  'CreateSubscriptionResponse.partitions': 'page',
  'GetSubscriptionResponse.partitions': 'page',
  'ListSubscriptionsResponse.subscriptions': 'page',
  'ListTopicsResponse.topics': 'page',
  'GetTopicResponse.partitions': 'page',
  'AddPartitionsResponse.partitions': 'page',
  'GetTopicStorageResponse.segments': 'page',
  'GetTopicStorageResponse.kept_by': 'page',
  'GetTopicStorageResponse.drops': 'page',
  /** The coordinator bounds the members, and `current` is left out where there is no room. */
  'AssignmentTask.members': 'page',
  'AssignmentTask.current': 'page',

  /** Beside those of logs with records, which count as records. */
  'PullResponse.gaps': { entries: limits.pullGapsMax },
  'PullResponse.batches': 'records',
  'ReadMessagesResponse.batches': 'records',
  'SubscribeResponse.batch': 'records',

  'Assigned.partitions': 'parts',
  'Assigned.removed': 'parts',
  'Revoking.partitions': 'parts',
};

const numbers: Readonly<Partial<Record<ScalarType, number>>> = {
  [ScalarType.BOOL]: 'false'.length,
  [ScalarType.INT32]: String(-(2 ** 31)).length,
  [ScalarType.INT64]: `"${-Number.MAX_SAFE_INTEGER}"`.length,
};

const googles: Readonly<Record<string, number>> = {
  'google.protobuf.Timestamp': '"2026-01-01T00:00:00.123456789Z"'.length,
  'google.protobuf.Duration': '"-315576000000.123456789s"'.length,
};

const nameOf = ({ parent, name }: DescField): string => `${parent.name}.${name}`;

/** The most bytes of a message in JSON. Protobuf needs less for each kind of field. */
function bytesOf(message: DescMessage, textBytes = (name: string) => texts[name]): number {
  const google = googles[message.typeName];
  if (google !== undefined) return google;
  const sizes = message.fields.map((field) => fieldBytes(field, textBytes));
  return 2 + (sizes.some((bytes) => bytes === 'page') ? limits.pageBytesMax : 0) + sumOf(sizes);
}

function fieldBytes(field: DescField, textBytes: (name: string) => number | undefined): number | 'page' {
  const list = lists[nameOf(field)];
  if (list === 'records' || list === 'parts') return 0;
  if (field.fieldKind !== 'list') return `"${field.jsonName}":,`.length + valueBytes(field, textBytes);
  if (list === undefined) return 0;
  return list === 'page' ? list : list.entries * (valueBytes(field, textBytes) + 1);
}

function valueBytes(field: DescField, textBytes: (name: string) => number | undefined): number {
  if (field.message !== undefined) return bytesOf(field.message, textBytes);
  if (field.enum !== undefined) return Math.max(...field.enum.values.map(({ name }) => name.length)) + 2;
  const bytes = field.scalar === ScalarType.STRING ? textBytes(field.name) : numbers[field.scalar];
  if (bytes === undefined) throw new Error(`nothing bounds the bytes of ${nameOf(field)}`);
  return field.scalar === ScalarType.STRING ? bytes + 2 : bytes;
}

function sumOf(sizes: readonly (number | 'page')[]): number {
  return sizes.reduce<number>((sum, bytes) => sum + (bytes === 'page' ? 0 : bytes), 0);
}

/** Every message of an answer or an event, except those within a page or a batch. */
function messagesOf(message: DescMessage, found = new Set<DescMessage>()): Set<DescMessage> {
  if (found.has(message) || !message.typeName.startsWith('millrace.')) return found;
  found.add(message);
  for (const field of message.fields) {
    const bound = lists[nameOf(field)];
    if (field.message !== undefined && typeof bound !== 'string') messagesOf(field.message, found);
  }
  return found;
}

const answers = services.flatMap(({ methods }) => methods.map(({ name, output }) => [name, output] as const));

test.each(answers)('the answer of %s, or each of its events, has room in a message', (_name, output) => {
  const missing = [...messagesOf(output)]
    .flatMap(({ fields }) => fields)
    .filter((field) => field.fieldKind === 'list' || field.fieldKind === 'map')
    .map(nameOf)
    .filter((name) => lists[name] === undefined);
  expect(missing, 'lists that nothing bounds').toEqual([]);
  const worst = output.oneofs.some(({ name }) => name === 'event')
    ? Math.max(...output.fields.map((field) => Number(fieldBytes(field, (name) => texts[name]))))
    : bytesOf(output);
  expect(worst).toBeLessThanOrEqual(limits.messageBytesMax);
});

test.each(answers.filter(([name]) => name === 'Pull' || name === 'ReadMessages'))(
  'the answer of %s keeps room for what it has beside records',
  (_name, output) => {
    expect(bytesOf(output)).toBeLessThanOrEqual(limits.recordsHeadBytesMax);
  },
);

test('an answer that comes in pages has the token of the next one, or it would end in the middle', () => {
  const paged = answers.flatMap(([, output]) => {
    return output.fields.some((field) => lists[nameOf(field)] === 'page') ? [output] : [];
  });
  expect(paged.length).toBeGreaterThan(10);
  for (const output of paged)
    expect(
      output.fields.map(({ name }) => name),
      output.name,
    ).toContain('next_page_token');
});

describe('the bytes that a page counts for an entry', () => {
  const none = null;
  const times = { afterCompletionMs: 0, excusedKeepMs: 0, maxAgeMs: 0, keepUnsubscribedMs: 0 };
  const retention = { ...times, maxBytes: 0 };
  const made = { partitions: 0, idempotencyWindowMs: 0, createdAtMs: 0, retention };
  const topic = { name: '', semantics: 'PUB_SUB', ...made } as const;
  const place = { topic: '', partition: 0, lane: 0 };
  const progress = { committedOffset: 0, highWatermark: 0, lag: 0, inFlightRecords: 0 };
  const status = { ...place, ...progress, blockedOn: none, memberId: none, oldestUnackedAgeMs: none };
  const group = { name: '', state: 'EMPTY', generation: 0, assignor: '', leaderId: none } as const;
  const member: MemberDetails = {
    ...{
      memberId: '' as MemberId,
      clientId: '',
      host: '',
      instanceId: none,
      kind: 'STREAM',
      topics: [],
      blockedOn: none,
    },
    ...{ partitions: [], partitionCount: 0, revoking: [], revokingCount: 0, inFlightRecords: 0, stalled: false },
    ...{ sessionTimeoutMs: 0, rebalanceTimeoutMs: 0, maxPollIntervalMs: 0 },
  };
  const keeper = { reason: 'CURRENT', subscription: none, bytes: 0, segments: 1, untilMs: none } as const;
  const drop = { segment: 1, reason: 'COMPLETED', bytes: 0, plannedAtMs: 0, doneAtMs: 0, ranges: [] } as const;
  const range = { partition: 0, lane: 0, first: 0, last: 0 };
  const life = { stateReason: 'CREATED', stateChangedAtMs: 0, deadAfterMs: 0, unattendedSinceMs: 0 } as const;
  const subscription = { id: 1, group: '', topic: '', state: 'ACTIVE', createdAtMs: 0, ...life } as const;

  test.each([
    ['TopicPartition', topicPartitionBytes(place)],
    ['PartitionStatus', partitionStatusBytes(status)],
    ['Member', memberBytes(member)],
    ['Group', groupBytes({ ...group, ...progress, memberCount: 0, topics: [], topicCount: 0 })],
    ['Topic', topicBytes({ ...topic, description: '' })],
    ['PartitionInfo', partitionInfoBytes({ ...place, logStartOffset: 0, highWatermark: 0, watermark: 0 })],
    ['Subscription', subscriptionBytes(subscription)],
    ['StoredSegment', storedSegmentBytes(0)],
    ['LogOffset', storedSegmentBytes(1) - storedSegmentBytes(0)],
    ['KeptBy', keptByBytes({ ...keeper, session: { pid: 1, transactionAgeMs: 1, applicationName: '', state: '' } })],
    ['SegmentDrop', segmentDropBytes(drop)],
    ['DroppedRange', segmentDropBytes({ ...drop, ranges: [range] }) - segmentDropBytes(drop)],
    ['FetchedOffset', fetchedOffsetBytes({ ...place, status: 'OK', committed: none })],
  ])('a page counts no fewer bytes for a %s than its longest numbers and names need', (name, counted) => {
    const desc = services.flatMap(({ methods }) => methods.flatMap(({ output }) => [...allMessages(output)]));
    const message = desc.find((one) => one.name === name)!;
    const least = bytesWithoutTexts(message);
    expect(counted).toBeGreaterThanOrEqual(least);
    expect(counted).toBeLessThanOrEqual(least * 1.6);
  });

  test('the texts of an entry count with the bytes that they need in JSON', () => {
    const hostile = '\u0001ä"';
    expect(topicBytes({ ...topic, description: hostile }) - topicBytes({ ...topic, description: '' })).toBe(6 + 2 + 2);
    const committed = { offset: 0, metadata: '\u0001'.repeat(4_096), highWatermark: 0, lag: 0 };
    expect(fetchedOffsetBytes({ ...place, status: 'OK', committed })).toBeGreaterThan(6 * 4_096);
    const held = { ...member, partitions: [{ topic: 'orders', partition: 1 }], topics: ['orders'] };
    const counted = memberBytes(held);
    expect(counted).toBeGreaterThan(memberBytes(member) + 2 * 'orders'.length);
  });
});

function allMessages(message: DescMessage, found = new Set<DescMessage>()): Set<DescMessage> {
  if (found.has(message)) return found;
  found.add(message);
  for (const { message: inner } of message.fields) if (inner !== undefined) allMessages(inner, found);
  return found;
}

/** An entry with empty texts and lists. */
function bytesWithoutTexts(message: DescMessage): number {
  const sizes = message.fields.map((field) => {
    const name = `"${field.jsonName}":,`.length;
    return field.fieldKind === 'list' ? name + 2 : name + valueBytes(field, () => 0);
  });
  return 2 + sumOf(sizes);
}
