import type { HeartbeatResult, HeartbeatSpec } from '../../load/heartbeats.ts';
import { Histogram } from '../../support/histogram.ts';
import { endAll, stopAll, sum } from '../../support/measure/interval.ts';
import { startLoad } from '../../support/load-process.ts';
import type { LoadProcess } from '../../support/load-process.ts';
import { Meter } from '../../support/measure/meter.ts';
import type { Cost } from '../../support/measure/meter.ts';
import { bySize, withBroker } from '../../support/site.ts';
import type { Bench } from '../../support/site.ts';
import type { Cell } from '../../support/table.ts';
import { delay } from '../../support/timing.ts';
import { readWrites } from '../../support/measure/writes.ts';
import { withNothing } from '../millrace-load.ts';

const membersPerGroup = 10;
const processes = 2;
/**
 * Allows for an autovacuum. Heartbeats that are written would cause 200 transactions a second or
 * more.
 */
const writesMorePerSecondMax = 10;

interface Interval {
  readonly cost: Cost;
  readonly results: readonly HeartbeatResult[];
  /** Transactions with a write; null without a database. */
  readonly writes: number | null;
  readonly walBytes: number | null;
}

/**
 * Measures joins and heartbeats through gRPC: to a broker with a database, and to a server that
 * does nothing.
 */
export async function runHeartbeats(bench: Bench): Promise<void> {
  const groups = bySize(bench, { smoke: 10, full: 500 });
  const measureMs = bySize(bench, { smoke: 500, full: 10_000 });
  await withBroker(bench, 'heartbeats', async (site) => {
    await site.withTopic(30, async (topic) => {
      bench.say(`${groups * membersPerGroup} joins, ${membersPerGroup} to a group`);
      const loads = await startMembers(site.broker.grpcAddress, topic, groups);
      const { pid } = site.broker;
      bench.say('nothing, then heartbeats');
      const idle = await interval(bench, site.databaseUrl, pid, loads, () => delay(measureMs));
      const busy = await beat(bench, site.databaseUrl, pid, loads, measureMs);
      reportJoins(bench, busy.results);
      report(bench, { idle, busy, nothing: await beatNothing(bench, topic, groups, measureMs) });
    });
  });
}

function startMembers(address: string, topic: string, groups: number): Promise<LoadProcess<HeartbeatResult>[]> {
  return Promise.all(
    Array.from({ length: processes }, (_, index) =>
      startLoad<HeartbeatSpec, HeartbeatResult>('heartbeats', {
        address,
        topic,
        groups: Array.from({ length: groups / processes }, (_, at) => `beats-${index}-${at}`),
        membersPerGroup,
        joinsInFlight: 32,
        heartbeatsInFlight: 64,
      }),
    ),
  );
}

/** Warms up, measures heartbeats, and ends the members. */
async function beat(
  bench: Bench,
  databaseUrl: string | null,
  serverPid: number,
  loads: readonly LoadProcess<HeartbeatResult>[],
  ms: number,
): Promise<Interval> {
  for (const load of loads) load.start();
  await delay(bySize(bench, { smoke: 200, full: 3_000 }));
  for (const load of loads) load.mark();
  const measured = await interval(bench, databaseUrl, serverPid, loads, () => delay(ms));
  await stopAll(loads);
  await endAll(loads);
  return measured;
}

/** Measures the same clients with a server that answers at once, without any work. */
async function beatNothing(bench: Bench, topic: string, groups: number, ms: number): Promise<Interval> {
  bench.say('heartbeats to a server that does nothing');
  return withNothing(async ({ broker }, pid) => {
    return beat(bench, null, pid, await startMembers(broker.grpcAddress, topic, groups), ms);
  });
}

async function interval(
  bench: Bench,
  databaseUrl: string | null,
  serverPid: number,
  loads: readonly LoadProcess<HeartbeatResult>[],
  work: () => Promise<void>,
): Promise<Interval> {
  const pids = loads.map(({ pid }) => pid);
  const meter = new Meter(bench.database, serverPid, pids);
  const before = databaseUrl === null ? null : await readWrites(databaseUrl);
  await meter.begin();
  await work();
  const results = await Promise.all(loads.map((load) => load.collect()));
  const cost = await meter.end();
  const after = databaseUrl === null ? null : await readWrites(databaseUrl);
  const written = (of: 'transactions' | 'walBytes'): number | null =>
    before === null || after === null ? null : after[of] - before[of];
  return { cost, results, writes: written('transactions'), walBytes: written('walBytes') };
}

function reportJoins(bench: Bench, results: readonly HeartbeatResult[]): void {
  const joins = sum(results, (result) => result.joins);
  const ms = Math.max(...results.map((result) => result.joinMs));
  const { p50Ms, p99Ms, maxMs } = Histogram.of(results.map((result) => result.joinLatency)).percentiles();
  bench.report.section(
    `Through gRPC: JoinGroup, ${membersPerGroup} members to each group one after the other, 64 calls in flight`,
    ['joins', 'joins/s', 'p50 ms', 'p99 ms', 'max ms'],
    [[joins, (joins / ms) * 1000, p50Ms, p99Ms, maxMs]],
    ['Durable: group, subscription, cursors, member, assignment. The first members make their groups.'],
  );
}

function report(bench: Bench, { idle, busy, nothing }: Readonly<Record<'idle' | 'busy' | 'nothing', Interval>>): void {
  bench.report.section(
    'Through gRPC: heartbeats, 128 calls in flight, lean clients',
    ['what', 'server cores', 'writes', 'WAL bytes', 'heartbeats/s', 'a server core', 'p50 ms', 'p99 ms', 'max ms'],
    [row('none', idle), row('to Millrace', busy), row('to nothing', nothing)],
    [
      'Each for as long. Writes: transactions that wrote something; the lease is renewed every 2 s, and autovacuum may come.',
      'To nothing: a gRPC server that answers at once, without any work. What it reaches is what clients and transport allow.',
    ],
  );
  bench.report.atLeast('gRPC: heartbeats a core of the broker', 30_000, rates(busy).perCore, '/s');
  const share = (rates(busy).perCore / rates(nothing).perCore) * 100;
  bench.report.atLeast('gRPC: heartbeats a core, against a server that does nothing', 50, share, '%');
  const more = (((busy.writes ?? NaN) - (idle.writes ?? NaN)) / busy.cost.elapsedMs) * 1000;
  bench.report.atMost('gRPC: writes with heartbeats, beyond those without', writesMorePerSecondMax, more, '/s');
}

function row(what: string, measured: Interval): Cell[] {
  const { cost, results, writes, walBytes } = measured;
  const { perSecond, perCore } = rates(measured);
  const latency = Histogram.of(results.map((result) => result.latency));
  const { p50Ms, p99Ms, maxMs } = latency.percentiles();
  const timed = latency.count === 0 ? [] : [perSecond, perCore, p50Ms, p99Ms, maxMs];
  return [what, cost.brokerCpuMs / cost.elapsedMs, writes, walBytes, ...timed];
}

function rates({ cost, results }: Interval): { perSecond: number; perCore: number } {
  const perSecond = sum(results, (result) => (result.heartbeats / result.elapsedMs) * 1000);
  return { perSecond, perCore: perSecond / (cost.brokerCpuMs / cost.elapsedMs) };
}
