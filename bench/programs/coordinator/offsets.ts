import type { Client } from '@grpc/grpc-js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { call, connect } from '../../client/service-client.ts';
import type { CommitResult, CommitSpec } from '../../load/commits.ts';
import { startBroker } from '../../support/broker-process.ts';
import type { BrokerProcess } from '../../support/broker-process.ts';
import { fillEnds, fillGroups } from '../../support/bare/fill-groups.ts';
import { Histogram } from '../../support/histogram.ts';
import { endAll, measure, stopAll, sum } from '../../support/measure/interval.ts';
import { startLoad } from '../../support/load-process.ts';
import { bySize, profileFlags } from '../../support/site.ts';
import type { Bench } from '../../support/site.ts';
import type { Cell } from '../../support/table.ts';
import { processUsage } from '../../support/measure/usage.ts';
import { makeTopics } from './streams.ts';

const partitionsPerTopic = 1_000;
const processes = 2;
const inFlight = 4;
/** The end of every partition. Every cursor starts at 0. */
const endOffset = 1_000_000;
/** Larger than the heap of `npm start`, which does not hold the million cursors measured here. */
const heapMib = 6_144;

/** Measures many committed offsets: start, memory, commits and fetches. */
export async function runOffsets(bench: Bench): Promise<void> {
  const topicCount = bySize(bench, { smoke: 2, full: 100 });
  const groupCount = bySize(bench, { smoke: 2, full: 10 });
  const name = `bench_offsets_${process.pid}`;
  const databaseUrl = await bench.database.create(name);
  const topics = await fill(bench, databaseUrl, topicCount, groupCount);
  const cursors = groupCount * topicCount * partitionsPerTopic;
  const nodeFlags = profileFlags(bench);
  const broker = await startBroker({ databaseUrl, heapMib, nodeFlags, timeoutMs: 300_000 });
  try {
    const startedMib = processUsage(broker.pid)?.memoryPeakMib ?? NaN;
    const groups = Array.from({ length: groupCount }, (_, at) => `group-${at + 1}`);
    await commits(bench, broker, { groups, topics });
    const client = connect(broker.grpcAddress);
    const fetched = await fetchAll(client, groups[0]!);
    client.close();
    const endedMib = processUsage(broker.pid)?.memoryPeakMib ?? NaN;
    bench.report.section(
      'Through gRPC: many committed offsets',
      ['offsets', 'start ms', 'MiB after start', 'MiB at the end', 'fetched', 'fetch ms', 'slowest page ms'],
      [[cursors, broker.startMs, startedMib, endedMib, fetched.count, fetched.ms, fetched.slowestPageMs]],
      [
        `${groupCount} groups without members, each subscribed to ${topicCount} topics of ${partitionsPerTopic} partitions; old space up to ${heapMib} MiB.`,
        'Memory is the peak that was resident until then. Fetched: all of one group, in pages of 10,000.',
      ],
    );
  } catch (error) {
    bench.say(`the broker's output:\n${broker.output()}`);
    throw error;
  } finally {
    await broker.stop();
    await bench.database.drop(name);
  }
}

/** Creates schema and topics through a broker, and the rest through SQL. */
async function fill(bench: Bench, databaseUrl: string, topicCount: number, groups: number): Promise<string[]> {
  bench.say(`${topicCount} topics of ${partitionsPerTopic} partitions, ${groups} groups that read all of them`);
  const broker = await startBroker({ databaseUrl });
  const client = connect(broker.grpcAddress);
  const topics = await makeTopics(client, 'offsets', topicCount, partitionsPerTopic);
  client.close();
  await broker.stop();
  await fillEnds(databaseUrl, endOffset);
  await fillGroups(databaseUrl, { groups, membersPerGroup: 0 });
  return topics;
}

async function commits(
  bench: Bench,
  broker: BrokerProcess,
  { groups, topics }: { readonly groups: readonly string[]; readonly topics: readonly string[] },
): Promise<void> {
  const rows: Cell[][] = [];
  let best = 0;
  let committedOffset = 0;
  for (const batch of bySize(bench, { smoke: [1_000], full: [100, 1_000, 10_000] })) {
    bench.say(`offset commits, ${batch} a call`);
    const loads = await Promise.all(
      Array.from({ length: processes }, (_, index) =>
        startLoad<CommitSpec, CommitResult>('commits', {
          address: broker.grpcAddress,
          groups: groups.filter((_, at) => at % processes === index),
          topics,
          partitionsPerTopic,
          batch,
          inFlight,
          committedOffset,
        }),
      ),
    );
    for (const load of loads) load.start();
    const { results, cost } = await measure(
      loads,
      bench.database,
      broker.pid,
      bySize(bench, { smoke: { warmUpMs: 200, measureMs: 500 }, full: { warmUpMs: 2_000, measureMs: 10_000 } }),
    );
    await stopAll(loads);
    await endAll(loads);
    // Higher than any offset of the last load, which cannot have moved a cursor so often.
    committedOffset += 10_000;
    const perSecond = sum(results, (result) => (result.offsets / result.elapsedMs) * 1000);
    best = Math.max(best, perSecond);
    const { p50Ms, p99Ms, maxMs } = Histogram.of(results.map((result) => result.latency)).percentiles();
    const offsets = sum(results, (result) => result.offsets);
    const cores = cost.brokerCpuMs / cost.elapsedMs;
    rows.push([
      batch,
      processes * inFlight,
      perSecond,
      perSecond / cores,
      p50Ms,
      p99Ms,
      maxMs,
      cost.walBytes / offsets,
    ]);
  }
  bench.report.section(
    'Through gRPC: CommitOffsets, answered when durable',
    ['offsets a call', 'calls in flight', 'offsets/s', 'a broker core', 'p50 ms', 'p99 ms', 'max ms', 'WAL B/offset'],
    rows,
    [
      'Each call moves other cursors, by one. WAL includes that of the folds, which rewrite the cursors that moved every 5 s.',
    ],
  );
  bench.report.atLeast('gRPC: offset commits', 200_000, best, '/s');
}

async function fetchAll(
  client: Client,
  group: string,
): Promise<{ readonly count: number; readonly ms: number; readonly slowestPageMs: number }> {
  const startMs = performance.now();
  let count = 0;
  let slowestPageMs = 0;
  let pageToken = '';
  do {
    const pageStartMs = performance.now();
    const page = await call(client, GroupService.method.fetchOffsets, { group, pageSize: 10_000, pageToken });
    slowestPageMs = Math.max(slowestPageMs, performance.now() - pageStartMs);
    count += page.offsets.length;
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return { count, ms: performance.now() - startMs, slowestPageMs };
}
