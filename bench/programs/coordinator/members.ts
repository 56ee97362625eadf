import { connect } from '../../client/service-client.ts';
import type { HeartbeatResult, HeartbeatSpec } from '../../load/heartbeats.ts';
import { Histogram } from '../../support/histogram.ts';
import { endAll, stopAll, sum } from '../../support/interval.ts';
import { startLoad } from '../../support/load-process.ts';
import type { LoadProcess } from '../../support/load-process.ts';
import { Meter } from '../../support/meter.ts';
import type { Cost } from '../../support/meter.ts';
import { bySize, withBroker } from '../../support/site.ts';
import type { Bench, Site } from '../../support/site.ts';
import { delay } from '../../support/timing.ts';
import { readWrites } from '../../support/writes.ts';
import type { Writes } from '../../support/writes.ts';
import { makeTopics, rejoin, startGroup } from './streams.ts';

/** Autovacuum may come in one of two intervals; heartbeats that were written would be thousands, or a round every 5 ms. */
const writesMoreMax = 10;

/** Joins and heartbeats through gRPC, with a real database; then groups whose members are streams. */
export async function runMembers(bench: Bench): Promise<void> {
  const flags = ['--partitions-max', '10000'];
  await withBroker(
    bench,
    'members',
    async (site) => {
      await heartbeats(bench, site);
      await emptyGroup(bench, site);
      await steadyGroup(bench, site);
    },
    flags,
  );
}

async function heartbeats(bench: Bench, site: Site): Promise<void> {
  const groups = bySize(bench, { smoke: 10, full: 500 });
  await site.withTopic(30, async (topic) => {
    bench.say(`${groups * 10} joins, 10 to a group`);
    const loads = await startHeartbeats(site, topic, groups);
    bench.say('heartbeats, after as long a time without');
    const measureMs = bySize(bench, { smoke: 500, full: 10_000 });
    const idle = await interval(bench, site, loads, () => delay(measureMs));
    for (const load of loads) load.start();
    await delay(bySize(bench, { smoke: 200, full: 2_000 }));
    for (const load of loads) load.mark();
    let results: HeartbeatResult[] = [];
    const busy = await interval(bench, site, loads, async () => {
      await delay(measureMs);
      results = await Promise.all(loads.map((load) => load.collect()));
    });
    await stopAll(loads);
    await endAll(loads);
    reportJoins(bench, results);
    reportHeartbeats(bench, results, { idle, busy });
  });
}

function startHeartbeats(site: Site, topic: string, groups: number): Promise<LoadProcess<HeartbeatResult>[]> {
  const processes = 2;
  return Promise.all(
    Array.from({ length: processes }, (_, index) =>
      startLoad<HeartbeatSpec, HeartbeatResult>('heartbeats', {
        address: site.broker.grpcAddress,
        topic,
        groups: Array.from({ length: groups / processes }, (_, at) => `beats-${index}-${at}`),
        membersPerGroup: 10,
        joinsInFlight: 32,
        heartbeatsInFlight: 64,
      }),
    ),
  );
}

interface Interval {
  readonly cost: Cost;
  readonly writes: Writes;
}

async function interval(
  bench: Bench,
  site: Site,
  loads: readonly LoadProcess<unknown>[],
  work: () => Promise<void>,
): Promise<Interval> {
  const pids = loads.map(({ pid }) => pid);
  const meter = new Meter(bench.database, site.broker.pid, pids);
  const before = await readWrites(site.databaseUrl);
  await meter.begin();
  await work();
  const cost = await meter.end();
  const after = await readWrites(site.databaseUrl);
  const transactions = after.transactions - before.transactions;
  return { cost, writes: { transactions, walBytes: after.walBytes - before.walBytes } };
}

function reportJoins(bench: Bench, results: readonly HeartbeatResult[]): void {
  const joins = sum(results, (result) => result.joins);
  const ms = Math.max(...results.map((result) => result.joinMs));
  const { p50Ms, p99Ms, maxMs } = Histogram.of(results.map((result) => result.joinLatency)).percentiles();
  bench.report.section(
    'Through gRPC: JoinGroup, 10 members to each group one after the other, 64 calls in flight',
    ['joins', 'joins/s', 'p50 ms', 'p99 ms', 'max ms'],
    [[joins, (joins / ms) * 1000, p50Ms, p99Ms, maxMs]],
    ['Durable: group, subscription, cursors, member, assignment. The first members make their groups.'],
  );
}

function reportHeartbeats(
  bench: Bench,
  results: readonly HeartbeatResult[],
  { idle, busy }: { readonly idle: Interval; readonly busy: Interval },
): void {
  const perSecond = sum(results, (result) => (result.heartbeats / result.elapsedMs) * 1000);
  const cores = busy.cost.brokerCpuMs / busy.cost.elapsedMs;
  const { p50Ms, p99Ms, maxMs } = Histogram.of(results.map((result) => result.latency)).percentiles();
  const row = (what: string, { cost, writes }: Interval): (string | number)[] => {
    return [what, cost.brokerCpuMs / cost.elapsedMs, writes.transactions, writes.walBytes];
  };
  bench.report.section(
    'Through gRPC: heartbeats, 128 calls in flight, lean clients',
    ['what', 'broker cores', 'writes', 'WAL bytes', 'heartbeats/s', 'a core', 'p50 ms', 'p99 ms', 'max ms'],
    [row('nothing', idle), [...row('heartbeats', busy), perSecond, perSecond / cores, p50Ms, p99Ms, maxMs]],
    [
      'Both for as long. Writes: transactions that wrote something. Those that there are come from the lease, renewed every 2 s, and autovacuum.',
    ],
  );
  bench.report.atLeast('gRPC: heartbeats a core of the broker', 30_000, perSecond / cores, '/s');
  const more = busy.writes.transactions - idle.writes.transactions;
  bench.report.atMost('gRPC: writes with heartbeats, beyond those without', writesMoreMax, more, '');
}

async function emptyGroup(bench: Bench, site: Site): Promise<void> {
  const members = bySize(bench, { smoke: 50, full: 1_000 });
  const rows: number[][] = [];
  for (const partitions of bySize(bench, { smoke: [100], full: [1_000, 10_000] })) {
    bench.say(`${members} members join an empty group over ${partitions} partitions`);
    await site.withTopic(partitions, async (topic) => {
      const group = await startGroup(site, `${topic}-group`, [topic], { members, partitions });
      rows.push([members, partitions, group.joinMs]);
      bench.report.atMost(`gRPC: ${members} members join, ${partitions} partitions`, 10_000, group.joinMs, 'ms');
      await group.end();
    });
  }
  bench.report.section(
    'Through gRPC: members that all join an empty group at once, as streams',
    ['members', 'partitions', 'until all have theirs, ms'],
    rows,
  );
}

async function steadyGroup(bench: Bench, site: Site): Promise<void> {
  const members = bySize(bench, { smoke: 10, full: 100 });
  const partitions = 10 * (members + 1);
  const times = bySize(bench, { smoke: 2, full: 20 });
  bench.say(`one more member joins a group of ${members}`);
  const client = connect(site.broker.grpcAddress);
  const topics = await makeTopics(client, 'steady', 1, partitions);
  const group = await startGroup(site, 'steady', topics, { members, partitions });
  const { p50Ms, p99Ms, maxMs } = (await rejoin(client, 'steady', topics, { members, times })).percentiles();
  await group.end();
  client.close();
  bench.report.section(
    'Through gRPC: one more member joins a group at rest, until its first Assigned with partitions',
    ['members', 'partitions', 'times', 'p50 ms', 'p99 ms', 'max ms'],
    [[members, partitions, times, p50Ms, p99Ms, maxMs]],
  );
  bench.report.atMost(`gRPC: a member joins ${members}, p99`, 200, p99Ms, 'ms');
}
