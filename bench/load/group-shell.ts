import { FakedDelivery } from '../support/bare/faked-delivery.ts';
import type { Subscribed } from '../support/bare/faked-delivery.ts';
import { Histogram } from '../support/histogram.ts';
import type { HistogramData } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import { delay } from '../support/timing.ts';

/**
 * Groups in their own process, with all code between the edges and the database. The database
 * answers at once. Needs --expose-gc, because memory is measured after a collection.
 */
export interface GroupShellSpec {
  readonly groups: number;
  readonly membersPerGroup: number;
  readonly topics: number;
  readonly partitionsPerTopic: number;
  readonly heartbeatMs: number;
  /** How often one more member joins the first group and leaves again. */
  readonly rejoins: number;
}

export interface GroupShellResult {
  readonly joinsPerSecond: number;
  readonly heartbeatsPerSecond: number;
  readonly rowsPerHeartbeat: number;
  /** The heap of groups and members, without their logs. */
  readonly heapMib: number;
  readonly rssMib: number;
  /** The time from the call of one more member to its first Assigned with partitions. */
  readonly rejoin: HistogramData;
}

interface Member extends Subscribed {
  readonly group: string;
}

/**
 * Longer than the coordinator waits for further changes, so that each join meets a group at rest.
 */
const restMs = 70;
/** A member without partitions after this time fails the benchmark. */
const lostMs = 30_000;
/** The number of heartbeats that one read of a socket may return. */
const heartbeatsAtOnce = 64;

async function joinAll(faked: FakedDelivery, spec: GroupShellSpec): Promise<Member[]> {
  const members: Member[] = [];
  const join = async (group: string): Promise<void> => {
    members.push({ group, ...(await faked.subscribe(group, () => undefined)) });
  };
  // All members of a single group join at once. With many groups, each gets one after the other.
  const rounds = spec.groups === 1 ? 1 : spec.membersPerGroup;
  for (let round = 0; round < rounds; round++) {
    const perGroup = spec.membersPerGroup / rounds;
    const names = Array.from({ length: spec.groups * perGroup }, (_, at) => `group-${at % spec.groups}`);
    await Promise.all(names.map(join));
  }
  return members;
}

async function heartbeats({ delivery }: FakedDelivery, members: readonly Member[], ms: number): Promise<number> {
  let made = 0;
  const startMs = performance.now();
  while (performance.now() - startMs < ms) {
    for (let i = 0; i < heartbeatsAtOnce; i++) {
      const { group, memberId, generation } = members[made++ % members.length]!;
      delivery.membership.heartbeat({ group, memberId, generation, revoked: [] });
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  return (made / (performance.now() - startMs)) * 1000;
}

async function rejoin(faked: FakedDelivery, times: number): Promise<Histogram> {
  const histogram = new Histogram();
  const warmUp = Math.ceil(times / 4);
  for (let i = 0; i < warmUp + times; i++) {
    await delay(restMs);
    const startMs = performance.now();
    const assigned = Promise.withResolvers<number>();
    const late = await faked.subscribe('group-0', (event) => {
      if (event.type === 'assigned' && event.partitions.length > 0) assigned.resolve(performance.now() - startMs);
    });
    const ms = await Promise.race([assigned.promise, delay(lostMs)]);
    if (ms === undefined) throw new Error('a member that joined was assigned nothing');
    if (i >= warmUp) histogram.record(ms * 1000);
    await delay(restMs);
    await faked.delivery.membership.leave('group-0', late.memberId);
  }
  return histogram;
}

function memory(): { heapMib: number; rssMib: number } {
  globalThis.gc!();
  const { heapUsed, rss } = process.memoryUsage();
  return { heapMib: heapUsed / 2 ** 20, rssMib: rss / 2 ** 20 };
}

async function run(spec: GroupShellSpec): Promise<GroupShellResult> {
  const faked = new FakedDelivery(spec.topics, spec.partitionsPerTopic);
  const before = memory();
  const startMs = performance.now();
  const members = await joinAll(faked, spec);
  const joinsPerSecond = (members.length / (performance.now() - startMs)) * 1000;
  await delay(restMs);
  const after = memory();
  const rowsBefore = faked.rowsWritten;
  await heartbeats(faked, members, spec.heartbeatMs / 4);
  const heartbeatsPerSecond = await heartbeats(faked, members, spec.heartbeatMs);
  const rowsPerHeartbeat = faked.rowsWritten - rowsBefore;
  const rejoined = await rejoin(faked, spec.rejoins);
  const heapMib = after.heapMib - before.heapMib;
  return {
    joinsPerSecond,
    heartbeatsPerSecond,
    rowsPerHeartbeat,
    heapMib,
    rssMib: after.rssMib,
    rejoin: rejoined.toData(),
  };
}

runLoad<GroupShellSpec, GroupShellResult>(async (spec) => {
  const result = await run(spec);
  return { start: () => undefined, mark: () => undefined, collect: () => result, stop: () => Promise.resolve() };
});
