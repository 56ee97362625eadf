import { status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../../../bench/support/timing.ts';
import { AckStatus, BrokerService, type AckResult } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService, GroupState } from '../../../gen/millrace/v1/group_pb.js';
import { Member } from '../../broker/member.ts';
import { Relay } from '../../broker/relay.ts';
import { Site } from '../../broker/site.ts';
import { failureOf } from '../../rpc/grpc-client.ts';
import { MemberProcess } from '../member-process.ts';
import { GroupLedger, StreamMember, type MemberOptions } from '../members.ts';

/**
 * Members that are killed, doubled, cut off or slow, as processes and behind a network that fails.
 */

const partitions = 6;
let site: Site;
let topic = '';
let group = '';
let tests = 0;
let published = 0;
let ledger: GroupLedger;
let members: StreamMember[] = [];
let processes: MemberProcess[] = [];
beforeAll(async () => {
  site = await Site.open();
});
beforeEach(async () => {
  tests++;
  topic = `orders-${tests}`;
  group = `group-${tests}`;
  published = 0;
  ledger = new GroupLedger();
  await site.createTopic(topic, partitions);
});
afterEach(async () => {
  await Promise.all(members.map((member) => member.stop()));
  await Promise.all(processes.map((process) => process.kill()));
  members = [];
  processes = [];
});
afterAll(async () => {
  await site.close();
});

type Changes = Partial<MemberOptions>;
const options = (changes: Changes): MemberOptions => {
  return { addresses: [site.broker.grpcAddress], group, topic, ledger, ...changes };
};

function join(changes: Changes = {}): StreamMember {
  const member = new StreamMember(options(changes)).start();
  members.push(member);
  return member;
}

function startProcess(changes: Changes = {}): MemberProcess {
  const process = new MemberProcess(options(changes));
  processes.push(process);
  return process;
}

/** A record into each partition, a round each. */
async function publish(rounds = 1): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (let partition = 0; partition < partitions; partition++)
      await site.publish(topic, partition, [String(published++)]);
  }
}

async function untilAllReceived(): Promise<void> {
  await waitFor(`all ${published} records`, 15_000, 5, () => ledger.received.size === published);
}

async function untilAllAcked(): Promise<void> {
  await waitFor(`all ${published} records to be acked`, 15_000, 5, () => ledger.ackedRecords === published);
}

/** So many members, no rebalance to come, and every partition with one of them. */
async function untilSettled(count: number): Promise<bigint> {
  let generation = 0n;
  await waitFor(`${count} settled members`, 15_000, 10, async () => {
    const shown = await site.call(GroupService.method.getGroup, { group }).catch(() => null);
    if (shown === null || shown.members.length !== count) return false;
    // One that has just joined is shown before the rebalance that gives it its partitions.
    if (shown.group!.state !== GroupState.STABLE) return false;
    generation = shown.group!.generation!;
    const held = shown.members.flatMap((member) => member.partitions);
    return held.length === partitions && shown.members.every(({ revoking }) => revoking.length === 0);
  });
  return generation;
}

/**
 * Waits for the members, because they get their assignments a little after the broker is settled.
 */
async function untilTold(...told: readonly StreamMember[]): Promise<void> {
  const assigned = (): number => told.reduce((sum, member) => sum + member.assigned.length, 0);
  await waitFor('the members to be told what they have', 15_000, 5, () => assigned() === partitions);
}

async function generationNow(): Promise<bigint> {
  return (await site.call(GroupService.method.getGroup, { group })).group!.generation!;
}

/** Acks the first record of a partition, as of the generation in which the member was given it. */
async function ack(
  { memberId, generation }: Pick<StreamMember, 'memberId' | 'generation'>,
  partition: number,
): Promise<AckResult> {
  const acks = [{ topic, partition, upToOffset: 0n }];
  const { results } = await site.call(BrokerService.method.ack, { group, memberId, generation, acks });
  return results[0]!;
}

const instanceId = 'till-1';

describe('a static member', () => {
  test(
    'a static member killed and restarted within its session timeout costs no rebalance and goes on',
    { timeout: 60_000 },
    async () => {
      const others = [join(), join()];
      const first = startProcess({ instanceId });
      const generation = await untilSettled(3);
      await publish(5);
      await untilAllAcked();
      const before = others.map(({ changes }) => [...changes]);
      const held = first.of('assigned').at(-1)!.partitions;
      await first.kill();
      await publish(5);
      const again = startProcess({ instanceId });
      await untilAllAcked();
      expect(again.of('assigned')[0]!.partitions).toEqual(held);
      expect(new Set(again.of('delivered').map(({ partition }) => partition))).toEqual(new Set(held));
      expect(again.of('delivered').every(({ offset }) => offset >= 5)).toBe(true);
      expect(others.map(({ changes }) => changes)).toEqual(before);
      expect(await generationNow()).toBe(generation);
      expect(ledger.afterAck).toEqual([]);
    },
  );

  test(
    'a static member started twice fences the first process: its stream ends, its acks are rejected',
    { timeout: 60_000 },
    async () => {
      const first = join({ instanceId, acks: false });
      const generation = await untilSettled(1);
      await publish();
      await untilAllReceived();
      const asItWas = { memberId: first.memberId, generation };
      const second = startProcess({ instanceId });
      await waitFor('the first one to be fenced', 15_000, 5, () => first.fenced.length > 0);
      expect(first.fenced).toEqual(['INSTANCE_FENCED']);
      const refused = await failureOf(ack(asItWas, 0));
      expect(refused.code).toBe(status.ABORTED);
      await untilAllAcked();
      expect(second.of('acked').length).toBe(partitions);
      expect(await generationNow()).toBe(generation);
    },
  );
});

describe('a network that is away', () => {
  let relay: Relay;
  beforeEach(async () => {
    relay = await Relay.open(site.broker.grpcPort);
  });
  afterEach(async () => {
    await relay.close();
  });

  test('a short cut, within the patience of every caller, changes nothing', { timeout: 60_000 }, async () => {
    const near = join();
    const far = join({ addresses: [relay.address], sessionTimeoutS: 60, patienceMs: 60_000 });
    const generation = await untilSettled(2);
    await untilTold(near, far);
    const before = [[...near.changes], [...far.changes]];
    relay.hold();
    await publish();
    await untilAnswered(near, 2);
    relay.letThrough();
    await untilAllAcked();
    expect([near.changes, far.changes]).toEqual(before);
    expect(await generationNow()).toBe(generation);
    expect(ledger.deliveries).toBe(published);
  });

  test(
    'a cut shorter than the session timeout costs a new stream, no rebalance, and no acked record comes again',
    { timeout: 60_000 },
    async () => {
      const near = join();
      const far = join({ addresses: [relay.address], sessionTimeoutS: 60 });
      const generation = await untilSettled(2);
      await publish();
      await untilAllAcked();
      const before = [...near.changes];
      const held = far.assigned;
      relay.hold();
      await publish();
      await untilAnswered(near, 6);
      relay.letThrough();
      await untilAllAcked();
      expect(near.changes).toEqual(before);
      expect(far.changes.filter((change) => change === 'joined').length).toBeGreaterThan(1);
      expect(far.assigned).toEqual(held);
      expect(far.fenced).toEqual([]);
      expect(await generationNow()).toBe(generation);
      expect(ledger.afterAck).toEqual([]);
    },
  );

  test(
    'a cut longer than the session timeout moves the partitions, and pings find the half-open connection',
    { timeout: 60_000 },
    async () => {
      const near = join();
      // It heartbeats no more, and would never close its connection by itself.
      const far = new Member(relay.address, { group, topics: [topic], sessionTimeout: { seconds: 6n, nanos: 0 } });
      await untilSettled(2);
      const joinedMs = performance.now();
      await publish();
      relay.silence();
      await waitFor('all partitions at the one that is left', 10_000, 5, () => near.assigned.length === partitions);
      expect(performance.now() - joinedMs).toBeGreaterThan(4_000);
      await untilAllAcked();
      await relay.closed();
      // A ping each 10 s, and 10 s for its answer.
      expect(performance.now() - joinedMs).toBeLessThan(25_000);
      far.leave();
    },
  );
});

/** Until a member's heartbeats have been answered so many times more: about as many seconds. */
async function untilAnswered(member: StreamMember, times: number): Promise<void> {
  for (let n = 0; n < times; n++) {
    const { beats } = member;
    await waitFor('a heartbeat', 10_000, 5, () => member.beats > beats);
  }
}

describe('a member whose handler takes longer than its max poll interval', () => {
  test(
    'a stuck member that heartbeats loses its partitions, stays a member, and gets some back when it acks',
    { timeout: 60_000 },
    async () => {
      const slow = join({ acks: false, maxPollIntervalS: 1 });
      await untilSettled(1);
      const quick = join();
      await untilSettled(2);
      await untilTold(slow, quick);
      const { memberId, generation, assigned } = slow;
      await publish();
      await waitFor('the quick one to have everything', 15_000, 5, () => quick.assigned.length === partitions);
      await untilAllAcked();
      const shown = async () => {
        const { members: known } = await site.call(GroupService.method.getGroup, { group });
        return known.find(({ memberId }) => memberId === slow.memberId)!;
      };
      const { beats } = slow;
      await waitFor('it to heartbeat on', 10_000, 5, () => slow.beats > beats);
      expect(await shown()).toMatchObject({ stalled: true, partitions: [] });
      expect(slow.fenced).toEqual([]);
      expect(await ack({ memberId, generation }, assigned[0]!)).toMatchObject({ status: AckStatus.STALE_GENERATION });
      await waitFor('it to have some again', 15_000, 5, () => slow.assigned.length === partitions / 2);
      expect(await shown()).toMatchObject({ stalled: false });
    },
  );
});

describe("fault 2: a crashed worker's claim is given back while its group lives", () => {
  test.each([
    ['at once, if it lives as long as its stream', null, 0, 4_000],
    ['when its session timeout is over, and not before', 6, 4_000, 9_000],
  ])('%s', { timeout: 60_000 }, async (_, sessionTimeoutS, atLeastMs, atMostMs) => {
    const again = new Set<number>();
    const left = join({
      report: (report) => {
        if (report.type === 'delivered' && report.attempt === 2) again.add(report.n);
      },
    });
    const crashing = startProcess({ acks: false, sessionTimeoutS });
    await untilSettled(2);
    await publish();
    await untilAllReceived();
    const claimed = crashing.of('delivered').map(({ n }) => n);
    expect(claimed.length).toBe(partitions / 2);
    await crashing.kill();
    const killedMs = performance.now();
    await publish(3);
    // Its group lives: what the crash has not touched goes on.
    const others = left.assigned;
    await waitFor('the partitions of the one that lives', 3_000, 5, () =>
      others.every((partition) => ledger.acked.get(partition) === 4n),
    );
    await waitFor('what the crashed one held', 15_000, 5, () => claimed.every((n) => again.has(n)));
    const tookMs = performance.now() - killedMs;
    expect(tookMs).toBeGreaterThan(atLeastMs);
    expect(tookMs).toBeLessThan(atMostMs);
    await untilAllAcked();
    expect(ledger.outOfOrder).toEqual([]);
  });
});
