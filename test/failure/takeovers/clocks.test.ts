import { timestampMs } from '@bufbuild/protobuf/wkt';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { isTemporary } from '../clients.ts';
import { Fleet } from '../fleet.ts';
import { ClassicMember, GroupLedger, StreamMember, type MemberReport } from '../members.ts';
import { hourMs, nodeFlagsOfClock } from '../preload.ts';

/**
 * Brokers whose wall clocks are wrong take over from each other: nothing that is stored or decided
 * goes by them.
 */

/** Of the owners, one after the other. */
const clocks = [hourMs, 0, -hourMs, 'jumping', hourMs] as const;
const slackMs = 3_000;
const seconds = (count: number) => ({ seconds: BigInt(count), nanos: 0 });

let fleet: Fleet;
let members: (StreamMember | ClassicMember)[] = [];
let ledger: GroupLedger;
beforeEach(async () => {
  fleet = await Fleet.open([nodeFlagsOfClock(clocks[0]), nodeFlagsOfClock(clocks[1])]);
  ledger = new GroupLedger();
  for (const [name, windowS] of [
    ['orders', 120],
    ['brief', 1],
  ] as const) {
    const idempotencyWindow = seconds(windowS);
    await fleet.active.call(TopicService.method.createTopic, { topic: { name, partitions: 2, idempotencyWindow } });
  }
  const options = { addresses: fleet.addresses, group: 'g', topic: 'orders', ledger, sessionTimeoutS: 30 };
  members = [new StreamMember(options).start(), new ClassicMember(options).start()];
});
afterEach(async () => {
  await Promise.all(members.map((member) => member.stop()));
  await fleet.close();
});

async function publish(topic: string, n: number): Promise<{ duplicate: boolean; offset: bigint }> {
  const records = [{ value: Buffer.from(String(n)), idempotencyKey: `n${n}` }];
  const { results } = await fleet.active.call(BrokerService.method.publish, { topic, partition: n % 2, records });
  return { duplicate: results[0]!.duplicate, offset: results[0]!.offset! };
}

/** The owner is killed; the one that stands by takes over, and the next one stands by. */
async function takeOver(next: (typeof clocks)[number] | undefined): Promise<void> {
  const { active } = fleet;
  active.broker.kill('SIGKILL');
  await active.broker.exited;
  fleet.swap();
  await waitFor('the standby to answer', 20_000, 5, async () => {
    try {
      await fleet.active.call(GroupService.method.getGroup, { group: 'g' });
      return true;
    } catch (error) {
      if (!isTemporary(error)) throw error;
      return false;
    }
  });
  if (next !== undefined) await fleet.standby.standBy(nodeFlagsOfClock(next));
}

/**
 * A partition moves after its holder has had its full time, and the deadline in the event is that
 * time by the broker's clock.
 */
async function expectRightRevocation(group: string, clock: (typeof clocks)[number]): Promise<void> {
  const told: { readonly atMs: number; readonly wallMs: number; readonly deadlineMs: number }[] = [];
  const delivered = new Set<number>();
  const report = (one: MemberReport): void => {
    if (one.type === 'delivered') delivered.add(one.partition);
    if (one.type === 'revoking') told.push({ atMs: performance.now(), wallMs: Date.now(), deadlineMs: one.deadlineMs });
  };
  const options = {
    addresses: [fleet.active.address],
    group,
    topic: 'orders',
    ledger: new GroupLedger(),
    sessionTimeoutS: null,
  };
  const holder = new StreamMember({ ...options, acks: false, rebalanceTimeoutS: 2, report }).start();
  await waitFor('the holder to have records of both partitions', 10_000, 5, () => {
    return holder.assigned.length === 2 && delivered.size === 2;
  });
  const next = new StreamMember(options).start();
  await waitFor('a partition to move', 10_000, 5, () => next.assigned.length === 1);
  const { atMs, wallMs, deadlineMs } = told[0]!;
  const tookMs = performance.now() - atMs;
  expect(tookMs).toBeGreaterThan(1_500);
  expect(tookMs).toBeLessThan(2_000 + slackMs);
  if (clock !== 'jumping') expect(Math.abs(deadlineMs - clock - (wallMs + 2_000))).toBeLessThan(slackMs);
  await Promise.all([holder.stop(), next.stop()]);
}

/**
 * A session ends when there was no sign of life for so long, and not before; the lease of a Pull is
 * told by the broker's clock.
 */
async function expectRightSession(group: string, clock: (typeof clocks)[number]): Promise<void> {
  const { active } = fleet;
  const askedMs = performance.now();
  const pulled = await active.call(BrokerService.method.pull, {
    group,
    topics: ['orders'],
    start: { position: { case: 'earliest', value: {} } },
    sessionTimeout: seconds(6),
    wait: seconds(1),
  });
  const [atMs, wallMs] = [performance.now(), Date.now()];
  const leaseMs = timestampMs(pulled.leaseDeadline!) - wallMs;
  if (clock !== 'jumping') expect(Math.abs(leaseMs - clock - 30_000)).toBeLessThan(slackMs);
  await waitFor('its session to end', 15_000, 10, async () => {
    const shown = await active.call(GroupService.method.getGroup, { group });
    return shown.members.length === 0;
  });
  // The broker has heard the member at some time between the call and its answer.
  expect(performance.now() - askedMs).toBeGreaterThan(5_500);
  expect(performance.now() - atMs).toBeLessThan(6_000 + slackMs);
}

async function expectRightAppendTimes(sinceMs: number): Promise<void> {
  for (const partition of [0, 1]) {
    const { batches } = await fleet.active.call(MessageService.method.readMessages, { topic: 'orders', partition });
    const times = batches.flatMap(({ records }) => records).map(({ appendTime }) => timestampMs(appendTime!));
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(times[0]).toBeGreaterThan(sinceMs - 1_000);
    expect(times.at(-1)).toBeLessThan(Date.now() + 1_000);
  }
}

test(
  'owners whose clocks are an hour ahead, right, an hour behind and jumping: sessions, deadlines, append times and keys go by none of them',
  { timeout: 180_000 },
  async () => {
    const sinceMs = Date.now();
    const generation = async (): Promise<bigint> => {
      const { group, members: known } = await fleet.active.call(GroupService.method.getGroup, { group: 'g' });
      return known.length === 2 ? group!.generation! : -1n;
    };
    await waitFor('both members', 10_000, 10, () => members.every(({ memberId }) => memberId !== ''));
    const first = await generation();
    expect((await publish('orders', 1_000)).duplicate).toBe(false);
    for (const [turn, clock] of clocks.entries()) {
      for (let n = 0; n < 4; n++) await publish('orders', turn * 4 + n);
      await publish('brief', turn);
      const publishedMs = performance.now();
      await Promise.all([expectRightRevocation(`r${turn}`, clock), expectRightSession(`s${turn}`, clock)]);
      await waitFor('everything at the members', 10_000, 5, () => ledger.received.size === (turn + 1) * 4 + 1);
      expect(await publish('orders', 1_000), 'a key within its window').toMatchObject({ duplicate: true, offset: 0n });
      if (turn < clocks.length - 1) await takeOver(clocks[turn + 2]);
      expect(await publish('orders', turn * 4), 'a key of the owner before').toMatchObject({ duplicate: true });
      expect(performance.now() - publishedMs).toBeGreaterThan(1_500);
      expect(await publish('brief', turn), 'a key whose window is over').toMatchObject({ duplicate: false });
      expect(await generation()).toBe(first);
    }
    await expectRightAppendTimes(sinceMs);
    expect(members.flatMap(({ fenced }) => fenced)).toEqual([]);
    expect([ledger.afterAck, ledger.outOfOrder]).toEqual([[], []]);
  },
);
