import { beforeEach, describe, expect, test } from 'vitest';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { failureOf } from '../../rpc/grpc-client.ts';
import { groupScene } from '../group-scene.ts';
import type { Member } from '../member.ts';
import { grpcRefusal } from '../refusal.ts';
import { Relay } from '../relay.ts';
import { Site } from '../site.ts';

/**
 * Faults that systems of this kind were found to have, each by its number, looked for in a whole
 * broker over gRPC.
 */

const fromNow = { position: { case: 'latest' as const, value: {} } };
const seconds = (count: number) => ({ seconds: BigInt(count), nanos: 0 });

const scene = groupScene();
const { join } = scene;
let site: Site;
let topic = '';
let group = '';
beforeEach(() => {
  ({ site, topic, group } = scene);
});

async function committed(name = group): Promise<number[]> {
  const { partitions } = await site.call(GroupService.method.getGroup, { group: name });
  return partitions.map(({ committedOffset }) => Number(committedOffset));
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index);

describe('fault 3: a message published while a group joins "from now"', () => {
  interface Publish {
    readonly begunMs: number;
    readonly confirmedMs: number;
    readonly partition: number;
    readonly offset: number;
  }

  test('a message published during a join from now reaches the group', { timeout: 60_000 }, async () => {
    const published: Publish[] = [];
    let stopped = false;
    const publishing = [0, 1].map(async (partition) => {
      while (!stopped) {
        const begunMs = performance.now();
        const [offset] = await site.publish(topic, partition, ['x']);
        published.push({ begunMs, confirmedMs: performance.now(), partition, offset: offset! });
      }
    });
    const joined = [];
    for (let n = 0; n < 20; n++) {
      const name = `${group}-${n}`;
      const calledMs = performance.now();
      const member = join({ group: name, start: fromNow, maxInFlightRecords: 10_000 });
      await expect.poll(() => member.memberId, { interval: 1 }).not.toBe('');
      joined.push({ member, calledMs, answeredMs: performance.now(), starts: await committed(name) });
    }
    stopped = true;
    await Promise.all(publishing);
    const ends = [0, 1].map((partition) => published.filter((one) => one.partition === partition).length);
    for (const { member, calledMs, answeredMs, starts } of joined) {
      await member.untilReceived(ends[0]! + ends[1]! - starts[0]! - starts[1]!);
      for (const partition of [0, 1]) {
        expect(member.of(partition)).toEqual(range(starts[partition]!, ends[partition]!));
        const here = published.filter((one) => one.partition === partition);
        const before = here.filter(({ confirmedMs }) => confirmedMs < calledMs);
        const after = here.filter(({ begunMs }) => begunMs > answeredMs);
        expect(before.every(({ offset }) => offset < starts[partition]!)).toBe(true);
        expect(after.every(({ offset }) => offset >= starts[partition]!)).toBe(true);
      }
    }
    site.broker.kill('SIGKILL');
    await site.restart();
    const stored = await Promise.all(joined.map(({ member }) => committed(member.group)));
    expect(stored, 'the starts that a new broker finds').toEqual(joined.map(({ starts }) => starts));
    // Without publishes that overlap a join it would prove nothing.
    const during = joined.filter(({ calledMs, answeredMs }) =>
      published.some(({ begunMs, confirmedMs }) => begunMs < answeredMs && confirmedMs > calledMs),
    );
    expect(during.length).toBeGreaterThan(10);
  });
});

describe('fault 4: a group that restarts "from now"', () => {
  test('a group that restarts from now skips no message, neither un-acked nor published while it was away', async () => {
    const first = join({ start: fromNow });
    await first.untilPartitions(0, 1);
    await site.publish(topic, 0, ['a0', 'a1', 'a2']);
    await first.untilReceived(3);
    expect(await first.ack(0, { upToOffset: 0n })).toEqual(['OK', 1n]);
    first.leave();
    await expect.poll(async () => (await site.call(GroupService.method.getGroup, { group })).members).toEqual([]);
    await site.publish(topic, 0, ['a3']);
    await site.publish(topic, 1, ['b0']);
    const again = await join({ start: fromNow }).untilReceived(4);
    expect([again.of(0), again.of(1)]).toEqual([[1, 2, 3], [0]]);
  });

  test('a group that stops and returns with JoinGroup and Pull receives every message', async () => {
    const start = fromNow;
    const first = await site.call(GroupService.method.joinGroup, { group, topics: [topic], start });
    await site.publish(topic, 0, ['a0', 'a1']);
    await site.call(GroupService.method.leaveGroup, { group, memberId: first.memberId });
    await site.publish(topic, 0, ['a2']);
    const { memberId } = await site.call(GroupService.method.joinGroup, { group, topics: [topic], start });
    const { batches } = await site.call(BrokerService.method.pull, { group, memberId });
    expect(batches.flatMap(({ records }) => records).map(({ offset }) => offset)).toEqual([0n, 1n, 2n]);
  });
});

describe('fault 5: graceful stop, then start', () => {
  test('a member that a group shows after a restart receives its messages', async () => {
    await site.publish(topic, 0, ['a0', 'a1']);
    const first = await join({ sessionTimeout: seconds(30) }).untilReceived(2);
    await first.ack(0, { upToOffset: 0n });
    await site.call(GroupService.method.leaveGroup, { group, memberId: first.memberId });
    const second = await join({ sessionTimeout: seconds(30) }).untilReceived(1);
    expect(second.of(0)).toEqual([1]);
    await site.publish(topic, 1, ['b0']);
    await second.untilReceived(2);
    expect(second.partitions).toEqual([0, 1]);
  });

  test(
    'after a restart of the broker a resumed member and a new member receive records',
    { timeout: 60_000 },
    async () => {
      const own = await Site.open();
      const groups = ['resumes', 'anew'];
      try {
        await own.createTopic('t', 1);
        await own.publish('t', 0, ['0', '1']);
        const { grpcAddress } = own.broker;
        const joined = (request: object): Member => join({ topics: ['t'], ...request }, grpcAddress);
        const before = groups.map((name) => joined({ group: name, sessionTimeout: seconds(30) }));
        for (const member of before) {
          await member.untilReceived(2);
          expect(await member.ack(0, { upToOffset: 0n })).toEqual(['OK', 1n]);
        }
        expect(await own.broker.stop()).toBe(0);
        await own.restart();
        await own.call(GroupService.method.leaveGroup, { group: 'anew', memberId: before[1]!.memberId });
        const after = [
          joined({ group: 'resumes', memberId: before[0]!.memberId }),
          joined({ group: 'anew', sessionTimeout: seconds(30) }),
        ];
        await own.publish('t', 0, ['2']);
        for (const member of after) {
          await member.untilReceived(2);
          expect(member.of(0)).toEqual([1, 2]);
          expect(await member.ack(0, { upToOffset: 2n })).toEqual(['OK', 3n]);
        }
      } finally {
        await own.close();
      }
    },
  );
});

describe('fault 15: an ack after the message went to another member is rejected', () => {
  beforeEach(async () => {
    await site.publish(topic, 0, ['a0', 'a1']);
    await site.publish(topic, 1, ['b0', 'b1']);
  });

  /** The new holder has acked nothing yet: only its own ack may count. */
  async function expectOnlyItsAckCounts(holder: Member, partition: number): Promise<void> {
    const before = await committed();
    expect(before[partition]).toBe(0);
    expect(await holder.ack(partition, { upToOffset: 1n })).toEqual(['OK', 2n]);
  }

  test('a late ack of a member whose stream was lost changes nothing', async () => {
    const relay = await Relay.open(site.broker.grpcPort);
    try {
      const lost = await join({}, relay.address).untilReceived(4);
      relay.cut();
      const other = await join().untilReceived(4);
      expect(grpcRefusal(await failureOf(lost.ack(0, { upToOffset: 1n })))).toMatchObject({ reason: 'MEMBER_FENCED' });
      await expectOnlyItsAckCounts(other, 0);
    } finally {
      await relay.close();
    }
  });

  test('a late ack of a member that missed its revocation deadline changes nothing', async () => {
    const slow = await join({ rebalanceTimeout: seconds(1) }).untilReceived(4);
    const { generation } = slow;
    const other = await join().untilReceived(2);
    const [moved] = other.partitions as [number];
    expect(await slow.ack(moved, { upToOffset: 1n }, generation)).toEqual(['STALE_GENERATION', 0n]);
    expect((await slow.ack(moved, { upToOffset: 1n }))[0]).toMatch(/^(NOT_OWNER|STALE_GENERATION)$/);
    await expectOnlyItsAckCounts(other, moved);
    expect(await slow.ack(1 - moved, { upToOffset: 1n }, generation)).toEqual(['OK', 2n]);
  });

  test('a late ack of a member beyond its max poll interval changes nothing', async () => {
    const stuck = await join({ sessionTimeout: seconds(30), maxPollInterval: seconds(1) }).untilReceived(4);
    const { generation } = stuck;
    const other = join();
    await other.untilPartitions(0, 1);
    await other.untilReceived(4);
    expect(await stuck.ack(0, { upToOffset: 1n }, generation)).toEqual(['STALE_GENERATION', 0n]);
    expect(other.received.map(({ attempt }) => attempt)).toEqual([2, 2, 2, 2]);
    await expectOnlyItsAckCounts(other, 0);
  });
});
