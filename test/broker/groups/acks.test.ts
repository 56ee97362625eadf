import { beforeEach, describe, expect, test } from 'vitest';
import { AckAction, BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { groupScene } from '../group-scene.ts';
import type { Site } from '../site.ts';

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

/** What the broker holds to be acked, in each partition. */
async function committed(): Promise<bigint[]> {
  const { partitions } = await site.call(GroupService.method.getGroup, { group });
  return partitions.map(({ committedOffset }) => committedOffset!);
}

describe('an invalid ack changes nothing', () => {
  test('an ack of an offset that was never delivered is rejected', async () => {
    const member = await join({ maxInFlightRecords: 2 }).untilReceived(2);
    const { partition } = member.received[0]!;
    const next = BigInt(member.of(partition).length);
    expect(await member.ack(partition, { offsets: [next] })).toEqual(['UNKNOWN_OFFSET', 0n]);
    expect(await member.ack(partition, { offsets: [0n, 1_000_000n] })).toEqual(['UNKNOWN_OFFSET', 0n]);
    expect(await member.ack(partition, { ranges: [{ first: 0n, last: next }] })).toEqual(['UNKNOWN_OFFSET', 0n]);
    expect(await member.ack(partition, { upToOffset: next })).toEqual(['UNKNOWN_OFFSET', 0n]);
    expect(await committed()).toEqual([0n, 0n]);
    expect(await member.ack(partition, { upToOffset: next - 1n })).toEqual(['OK', next]);
  });

  test('an ack of records that are already acked is answered ALREADY_ACKED', async () => {
    const member = await join().untilReceived(8);
    expect(await member.ack(0, { upToOffset: 2n })).toEqual(['OK', 3n]);
    expect(await member.ack(0, { upToOffset: 2n })).toEqual(['ALREADY_ACKED', 3n]);
    expect(await member.ack(0, { offsets: [0n, 1n] })).toEqual(['ALREADY_ACKED', 3n]);
    const nack = { offsets: [1n], action: AckAction.NACK };
    expect(await member.ack(0, nack)).toEqual(['ALREADY_ACKED', 3n]);
    expect(await member.ack(0, { offsets: [2n, 3n] })).toEqual(['OK', 4n]);
  });

  test('an ack of a record that was delivered to another member is rejected', async () => {
    const first = await join().untilReceived(8);
    expect(await first.ack(0, { upToOffset: 4n })).toEqual(['OK', 5n]);
    expect(await first.ack(1, { upToOffset: 2n })).toEqual(['OK', 3n]);
    const second = join();
    await Promise.all([first.untilPartitions(0), second.untilPartitions(1)]);
    await site.publish(topic, 1, ['b3']);
    await second.untilReceived(1);
    expect(await first.ack(1, { offsets: [3n] })).toEqual(['NOT_OWNER', 3n]);
    expect(await second.ack(0, { upToOffset: 4n })).toEqual(['NOT_OWNER', 5n]);
    expect(await second.ack(1, { upToOffset: 3n })).toEqual(['OK', 4n]);
  });

  test('an ack of a generation before the member held the partition is rejected, and one of a later generation counts', async () => {
    const first = await join().untilReceived(8);
    const before = first.generation;
    const second = join();
    expect(await first.ack(1, { upToOffset: 2n }, before)).toEqual(['OK', 3n]);
    await Promise.all([first.untilPartitions(0), second.untilPartitions(1)]);
    await site.publish(topic, 1, ['late']);
    await second.untilReceived(1);
    expect(second.generation).toBeGreaterThan(before);
    expect(await second.ack(1, { upToOffset: 3n }, before)).toEqual(['STALE_GENERATION', 3n]);
    expect(await first.ack(1, { upToOffset: 3n }, before)).toEqual(['STALE_GENERATION', 3n]);
    const future = second.generation + 1n;
    expect(await second.ack(1, { upToOffset: 3n }, future)).toEqual(['STALE_GENERATION', 3n]);
    expect(await committed()).toEqual([0n, 3n]);
    expect(await first.ack(0, { upToOffset: 1n }, before)).toEqual(['OK', 2n]);
  });

  test('an ack of a member that has left, or of another group, is rejected', async () => {
    const member = await join().untilReceived(8);
    const request = {
      group,
      memberId: member.memberId,
      generation: member.generation,
      acks: [{ topic, partition: 0, upToOffset: 4n }],
    };
    await site.call(GroupService.method.joinGroup, { group: 'neighbours', topics: [topic] });
    const elsewhere = await site.refusal(BrokerService.method.ack, { ...request, group: 'neighbours' });
    expect(elsewhere.reason).toBe('MEMBER_FENCED');
    await site.call(GroupService.method.leaveGroup, { group, memberId: member.memberId });
    expect((await site.refusal(BrokerService.method.ack, request)).reason).toBe('MEMBER_FENCED');
    expect(await committed()).toEqual([0n, 0n]);
  });
});

describe('a nacked or released record is not lost by a later cumulative ack or commit', () => {
  const refusals = {
    'NACK with a delay': { action: AckAction.NACK, delay: { seconds: 2n } },
    'NACK without a delay': { action: AckAction.NACK, delay: { seconds: 0n } },
    RELEASE: { action: AckAction.RELEASE },
  };
  const passing = { upToOffset: 2n };

  test.each(Object.entries(refusals))(
    'an ack and a commit up to a record with %s stop before it, before and after its redelivery',
    async (_name, refusal) => {
      const member = await join().untilReceived(8);
      const first = { offsets: [0n], ...refusal };
      // In one call, so that the ack comes before the record can be on its way again.
      expect(await member.ackAll(1, [first, passing])).toEqual([
        ['OK', 0n],
        ['UNKNOWN_OFFSET', 0n],
      ]);
      // Whether the record is out again by now is left to chance.
      expect(await member.commit(1, 3n)).toEqual(['UNKNOWN_OFFSET', 0n]);
      await member.untilReceived(11);
      expect(member.of(1)).toEqual([0, 1, 2, 0, 1, 2]);
      // Both may have been on the wire while the record came again.
      expect(await member.ack(1, passing)).toEqual(['UNKNOWN_OFFSET', 0n]);
      expect(await member.commit(1, 3n)).toEqual(['UNKNOWN_OFFSET', 0n]);
      expect(await committed()).toEqual([0n, 0n]);
      expect(await member.ack(1, { ranges: [{ first: 0n, last: 0n }] })).toEqual(['OK', 1n]);
      expect(await member.ack(1, passing)).toEqual(['OK', 3n]);
    },
  );

  test('a nacked or released record goes to the next member when its member leaves', async () => {
    const member = await join().untilReceived(8);
    expect(await member.ack(1, { offsets: [0n], action: AckAction.RELEASE })).toEqual(['OK', 0n]);
    expect(await member.ack(1, { ranges: [{ first: 1n, last: 2n }] })).toEqual(['OK', 0n]);
    expect(await member.ack(1, { upToOffset: 2n })).toEqual(['UNKNOWN_OFFSET', 0n]);
    await site.call(GroupService.method.leaveGroup, { group, memberId: member.memberId });
    const next = await join().untilReceived(6);
    expect(next.of(1)).toEqual([0]);
    // The refusal was that of the other member.
    expect(await next.ack(1, { upToOffset: 0n })).toEqual(['OK', 3n]);
  });
});

test('a wrong entry of an ack rejects only itself, over JSON as over gRPC', async () => {
  const member = await join().untilReceived(8);
  const acks = [
    { topic, partition: 0, offsets: [0n] },
    { topic, partition: 0, offsets: [77n] },
    { topic: 'nowhere', partition: 0, upToOffset: 1n },
    { topic, partition: 9, upToOffset: 1n },
    { topic, partition: 1, upToOffset: 0n },
  ];
  const request = { group, memberId: member.memberId, generation: String(member.generation), acks };
  const response = await fetch(`${site.broker.httpUrl}/millrace.v1.BrokerService/Ack`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
  });
  expect(await response.json()).toEqual({
    results: [
      { topic, partition: 0, lane: 0, status: 'ACK_STATUS_OK', committedOffset: '1' },
      { topic, partition: 0, lane: 0, status: 'ACK_STATUS_UNKNOWN_OFFSET', committedOffset: '1' },
      { topic: 'nowhere', partition: 0, lane: 0, status: 'ACK_STATUS_NOT_OWNER' },
      { topic, partition: 9, lane: 0, status: 'ACK_STATUS_NOT_OWNER' },
      { topic, partition: 1, lane: 0, status: 'ACK_STATUS_OK', committedOffset: '1' },
    ],
  });
});

test('an entry that names its offsets in two ways, or in none, rejects the whole ack', async () => {
  const member = await join().untilReceived(8);
  const who = { group, memberId: member.memberId, generation: member.generation };
  const refusal = await site.refusal(BrokerService.method.ack, {
    ...who,
    acks: [
      { topic, partition: 0, upToOffset: 4n },
      { topic, partition: 0, upToOffset: 4n, offsets: [3n] },
      { topic, partition: 0 },
    ],
  });
  expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['acks[1]', 'acks[2]'] });
  expect(await committed()).toEqual([0n, 0n]);
});

test('an ack without a partition acks nothing, neither of partition 0 nor of the entries beside it', async () => {
  const member = await join().untilReceived(8);
  const who = { group, memberId: member.memberId, generation: member.generation };
  const refusal = await site.refusal(BrokerService.method.ack, {
    ...who,
    acks: [
      { topic, partition: 1, upToOffset: 2n },
      { topic, upToOffset: 4n },
    ],
  });
  expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['acks[1].partition'] });
  expect(await committed()).toEqual([0n, 0n]);
});

test('an ack without a generation is rejected, and its answer names no acked record', async () => {
  const member = await join().untilReceived(8);
  const acks = [{ topic, partition: 0, upToOffset: 4n }];
  const refusal = await site.refusal(BrokerService.method.ack, { group, memberId: member.memberId, acks });
  expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: ['generation'] });
  expect(await committed()).toEqual([0n, 0n]);
});

test('after rejected acks a new member receives exactly the un-acked records, from the first attempt on', async () => {
  const first = await join().untilReceived(8);
  await first.ack(0, { upToOffset: 1n });
  await first.ack(0, { offsets: [99n] });
  await first.ack(1, { upToOffset: 0n }, first.generation + 5n);
  await site.call(GroupService.method.leaveGroup, { group, memberId: first.memberId });
  const last = await join().untilReceived(6);
  expect(last.of(0)).toEqual([2, 3, 4]);
  expect(last.of(1)).toEqual([0, 1, 2]);
  expect(last.received.every(({ attempt }) => attempt === 1)).toBe(true);
});

test('the log has every confirmed record and no other after all invalid acks', async () => {
  await site.expectAllThere();
});
