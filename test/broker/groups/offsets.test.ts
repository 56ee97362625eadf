import { beforeEach, describe, expect, test } from 'vitest';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { OffsetStatus, type ResetOffsetsResponse } from '../../../gen/millrace/v1/offset_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { groupScene } from '../group-scene.ts';
import type { Site } from '../site.ts';

const { commitOffsets, fetchOffsets, resetOffsets, deleteGroup, getGroup, leaveGroup } = GroupService.method;
const { createSubscription } = SubscriptionService.method;

const scene = groupScene([
  ['a0', 'a1', 'a2', 'a3', 'a4'],
  ['b0', 'b1', 'b2'],
]);
const { join } = scene;
let site: Site;
let topic = '';
let group = '';
beforeEach(() => {
  ({ site, topic, group } = scene);
});

async function makeGroup(): Promise<void> {
  const start = { position: { case: 'earliest' as const, value: {} } };
  await site.call(createSubscription, { group, topic, start });
}

/** A call in JSON over HTTP. */
async function json(method: string, request: object): Promise<unknown> {
  const response = await fetch(`${site.broker.httpUrl}/millrace.v1.GroupService/${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
  });
  return response.json();
}

const moves = ({ offsets }: ResetOffsetsResponse) =>
  offsets.map(({ partition, previousOffset, offset, lag }) => [partition, previousOffset, offset, lag].map(Number));

test('a member commits offsets over gRPC and JSON alike, and a wrong entry rejects only itself', async () => {
  const member = await join().untilReceived(8);
  const who = { group, memberId: member.memberId, generation: member.generation };
  const committed = await site.call(commitOffsets, {
    ...who,
    offsets: [
      { topic, partition: 0, offset: 3n, metadata: 'chunk 7' },
      { topic, partition: 0, offset: 2n },
      { topic, partition: 1, offset: 4n },
      { topic, partition: 5, offset: 0n },
      { topic: 'nowhere', partition: 0, offset: 0n },
    ],
  });
  expect(committed.results.map(({ status, committedOffset }) => [OffsetStatus[status], committedOffset])).toEqual([
    ['OK', 3n],
    ['NOT_ADVANCED', 3n],
    ['UNKNOWN_OFFSET', 0n],
    ['UNKNOWN_PARTITION', undefined],
    ['UNKNOWN_PARTITION', undefined],
  ]);
  const inJson = { group, memberId: member.memberId, generation: String(member.generation) };
  expect(
    await json('CommitOffsets', { ...inJson, offsets: [{ topic, partition: 1, offset: '0', metadata: 'é' }] }),
  ).toEqual({
    results: [{ topic, partition: 1, lane: 0, status: 'OFFSET_STATUS_OK', committedOffset: '0' }],
  });
  expect(
    await json('FetchOffsets', {
      group,
      partitions: [
        { topic, partition: 1 },
        { topic: 'nowhere', partition: 0 },
      ],
    }),
  ).toEqual({
    offsets: [
      {
        topic,
        partition: 1,
        lane: 0,
        committedOffset: '0',
        highWatermark: '3',
        lag: '3',
        metadata: 'é',
        status: 'OFFSET_STATUS_OK',
      },
      { topic: 'nowhere', partition: 0, lane: 0, status: 'OFFSET_STATUS_UNKNOWN_PARTITION' },
    ],
  });
  expect(await member.ack(0, { upToOffset: 2n })).toEqual(['ALREADY_ACKED', 3n]);
});

test('a commit without a partition commits nothing, neither of partition 0 nor of the entries beside it', async () => {
  await makeGroup();
  const offsets = [
    { topic, partition: 1, offset: 2n },
    { topic, offset: 4n },
  ];
  const refusal = await site.refusal(commitOffsets, { group, offsets });
  expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['offsets[1].partition'] });
  const { offsets: fetched } = await site.call(fetchOffsets, { group });
  expect(fetched.map(({ committedOffset }) => committedOffset)).toEqual([0n, 0n]);
});

test('a reset without a partition resets nothing', async () => {
  const member = await join().untilReceived(8);
  await member.ack(0, { upToOffset: 4n });
  const to = { case: 'earliest' as const, value: {} };
  const refusal = await site.refusal(resetOffsets, { group, to, partitions: [{ topic }], force: true });
  expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['partitions[0].partition'] });
  const { offsets: fetched } = await site.call(fetchOffsets, { group });
  expect(fetched.map(({ committedOffset }) => committedOffset)).toEqual([5n, 0n]);
});

test('pages of a fetch leave out no partition, even if metadata makes them too large for a message', async () => {
  const wide = `wide-${group}`;
  await site.createTopic(wide, 1_000);
  await makeGroup();
  const start = { position: { case: 'earliest' as const, value: {} } };
  await site.call(createSubscription, { group, topic: wide, start });
  const metadata = 'é'.repeat(2_048);
  for (const from of [0, 500]) {
    const offsets = Array.from({ length: 500 }, (_, at) => ({
      topic: wide,
      partition: from + at,
      offset: 0n,
      metadata,
    }));
    await site.call(commitOffsets, { group, offsets });
  }
  for (const partitions of [[], Array.from({ length: 1_000 }, (_, partition) => ({ topic: wide, partition }))]) {
    const seen: string[] = [];
    let pages = 0;
    for (let pageToken = ''; pages === 0 || pageToken !== ''; pages++) {
      const page = await site.call(fetchOffsets, { group, partitions, pageToken });
      seen.push(...page.offsets.map((one) => `${one.topic}/${one.partition} ${one.metadata.length}`));
      pageToken = page.nextPageToken;
    }
    expect(pages).toBe(2);
    const expected = Array.from({ length: 1_000 }, (_, partition) => `${wide}/${partition} 2048`);
    expect(seen).toEqual(partitions.length > 0 ? expected : [`${topic}/0 0`, `${topic}/1 0`, ...expected]);
  }
  const two = await site.call(fetchOffsets, { group, pageSize: 2 });
  expect(two.offsets.map((one) => one.topic)).toEqual([topic, topic]);
});

describe('a reset', () => {
  test('a dry run of a reset changes nothing, and the reset itself delivers acked records again', async () => {
    const first = await join().untilReceived(8);
    await first.ack(0, { upToOffset: 4n });
    await first.ack(1, { upToOffset: 2n });
    const refused = await site.refusal(resetOffsets, { group, to: { case: 'earliest', value: {} } });
    expect(refused.reason).toBe('GROUP_NOT_EMPTY');
    await site.call(leaveGroup, { group, memberId: first.memberId });
    const back = { case: 'shiftBy', value: -2n } as const;
    const dry = await site.call(resetOffsets, { group, to: back, dryRun: true });
    const wanted = [
      [0, 5, 3, 2],
      [1, 3, 1, 2],
    ];
    expect(moves(dry)).toEqual(wanted);
    expect(moves(await site.call(resetOffsets, { group, to: back }))).toEqual(wanted);
    const second = await join().untilReceived(4);
    expect([second.of(0), second.of(1)]).toEqual([
      [3, 4],
      [1, 2],
    ]);
  });

  test('a reset beyond the end, or of an unknown topic or partition, is rejected and changes nothing', async () => {
    await makeGroup();
    const to = { case: 'offset', value: 4n } as const;
    const beyond = await site.refusal(resetOffsets, { group, to });
    expect(beyond).toMatchObject({ reason: 'OFFSET_OUT_OF_RANGE', message: expect.stringContaining('partition 1') });
    const partitions = [{ topic, partition: 2 }];
    expect((await site.refusal(resetOffsets, { group, to, partitions })).reason).toBe('PARTITION_OUT_OF_RANGE');
    const topics = ['nowhere'];
    expect((await site.refusal(resetOffsets, { group, to, topics })).reason).toBe('SUBSCRIPTION_NOT_FOUND');
    const { partitions: now } = await site.call(getGroup, { group });
    expect(now.map(({ committedOffset }) => committedOffset)).toEqual([0n, 0n]);
    const one = await site.call(resetOffsets, { group, to, partitions: [{ topic, partition: 0 }] });
    expect(moves(one)).toEqual([[0, 0, 4, 1]]);
  });

  test('a reset with force revokes the partitions of the members and assigns them again at the new offsets', async () => {
    const member = await join({ rebalanceTimeout: { seconds: 1n } }).untilReceived(8);
    const [{ offsets }] = await Promise.all([
      site.call(resetOffsets, { group, to: { case: 'earliest', value: {} }, force: true }),
      member.untilPartitions(),
    ]);
    expect(offsets.map(({ offset }) => offset)).toEqual([0n, 0n]);
    await member.untilPartitions(0, 1);
    await member.untilReceived(16);
  });

  test('a reset to a time begins at the first record at or after it', async () => {
    await makeGroup();
    const future = { case: 'timestamp', value: { seconds: 4_000_000_000n } } as const;
    expect(moves(await site.call(resetOffsets, { group, to: future, dryRun: true }))).toEqual([
      [0, 0, 5, 0],
      [1, 0, 3, 0],
    ]);
    const past = { case: 'timestamp', value: { seconds: 1n } } as const;
    expect(moves(await site.call(resetOffsets, { group, to: past }))).toEqual([
      [0, 0, 0, 5],
      [1, 0, 0, 3],
    ]);
  });
});

test('a group can be deleted only when it is empty, and its offsets go with it', async () => {
  const member = await join().untilReceived(8);
  await member.ack(0, { upToOffset: 4n });
  expect((await site.refusal(deleteGroup, { group })).reason).toBe('GROUP_NOT_EMPTY');
  const withoutMember = { group, offsets: [{ topic, partition: 1, offset: 1n }] };
  expect((await site.refusal(commitOffsets, withoutMember)).reason).toBe('GROUP_NOT_EMPTY');
  await site.call(leaveGroup, { group, memberId: member.memberId });
  await site.call(commitOffsets, { group, offsets: [{ topic, partition: 1, offset: 1n }] });
  await site.call(deleteGroup, { group });
  for (const method of [deleteGroup, getGroup, fetchOffsets]) {
    expect((await site.refusal(method, { group })).reason).toBe('GROUP_NOT_FOUND');
  }
  const again = await join().untilReceived(8);
  expect(again.of(0)).toEqual([0, 1, 2, 3, 4]);
});

test('ten thousand partitions are committed and fetched by one call each', async () => {
  const names = Array.from({ length: 10 }, (_, at) => `many-${group}-${at}`);
  for (const name of names) {
    await site.createTopic(name, 1_000);
    await site.call(createSubscription, { group, topic: name });
  }
  const offsets = names.flatMap((name) =>
    Array.from({ length: 1_000 }, (_, partition) => ({ topic: name, partition, offset: 0n, metadata: `${partition}` })),
  );
  const { results } = await site.call(commitOffsets, { group, offsets });
  expect(new Set(results.map(({ status }) => status))).toEqual(new Set([OffsetStatus.OK]));
  const fetched = await site.call(fetchOffsets, { group });
  expect(fetched.offsets.map(({ metadata }) => metadata)).toEqual(offsets.map(({ metadata }) => metadata));
  expect(fetched.nextPageToken).toBe('');
  const twice = { group, offsets: [...offsets, offsets[0]!] };
  expect((await site.grpcRefusal(commitOffsets, twice)).fields).toEqual(['offsets']);
});
