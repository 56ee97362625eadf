import { Histogram } from '../../support/histogram.ts';
import type { HistogramData } from '../../support/histogram.ts';
import { endAll, measure, stopAll, sum } from '../../support/measure/interval.ts';
import type { Interval } from '../../support/measure/interval.ts';
import { startLoad } from '../../support/load-process.ts';
import type { LoadProcess } from '../../support/load-process.ts';
import { Meter } from '../../support/measure/meter.ts';
import type { Cost } from '../../support/measure/meter.ts';
import type { Bench, Site } from '../../support/site.ts';
import type { HeartbeatResult, HeartbeatSpec } from '../../load/heartbeats.ts';
import type { PublishResult } from '../../load/publish.ts';
import { fanOut } from '../fanout.ts';
import { startConsumers, startPublishers } from '../millrace-load.ts';

const partitions = 6;

/**
 * The result and the cost of one turn. In the loads of groups the messages are joins or heartbeats.
 */
export interface Turn {
  readonly messages: number;
  readonly perSecond: number;
  /** Null if the load has no latency worth a comparison. */
  readonly latency: Histogram | null;
  readonly cost: Cost;
}

type RunTurn = (bench: Bench, site: Site, interval: Interval) => Promise<Turn>;

/** The compared loads, by the name of their benchmark. */
export const turnLoads: Readonly<Record<string, RunTurn>> = {
  append: (bench, site, interval) => publish(bench, site, interval, { batch: 100, inFlight: 4 }),
  singles: (bench, site, interval) =>
    publish(bench, site, interval, { batch: 1, inFlight: 8, publishers: 64, call: 'stream' }),
  fanout: fanOutTurn,
  latency: latencyTurn,
  joins: joinTurn,
  heartbeats: heartbeatTurn,
};

interface PublishShape {
  readonly batch: number;
  readonly inFlight: number;
  readonly publishers?: number;
  readonly call?: 'unary' | 'stream';
}

/** Publishes records of 1 KiB from two processes. */
function publish(bench: Bench, site: Site, interval: Interval, shape: PublishShape): Promise<Turn> {
  return site.withTopic(partitions, async (topic) => {
    const loads = await startPublishers(site, topic, { ...shape, valueBytes: 1024, processes: 2, seed: bench.seed });
    for (const load of loads) load.start();
    const { results, cost } = await measureAndEnd(bench, site, interval, loads);
    return published(results, cost, null);
  });
}

/** Delivers 2 KiB to 4 groups, everything acked, at the highest sustained rate. */
async function fanOutTurn(bench: Bench, site: Site, interval: Interval): Promise<Turn> {
  const shape = { groups: 4, valueBytes: 2048, batch: 100, messagesPerSecond: null } as const;
  const load = { ...shape, client: 'ordinary', ackPerBatch: false, stamped: false } as const;
  const result = await fanOut(bench, site, load, interval);
  const { published: messages, publishedPerSecond: perSecond, cost } = result;
  return { messages, perSecond, latency: null, cost };
}

/**
 * Sends 2,000 records a second to one group. The latency is from a record's due time to its
 * handler.
 */
function latencyTurn(bench: Bench, site: Site, interval: Interval): Promise<Turn> {
  return site.withTopic(partitions, async (topic) => {
    const consumers = await startConsumers(site, topic, { partitions, groupCount: 1, stamped: true });
    const rate = { batch: 1, valueBytes: 1024, requestsPerSecond: 2_000, publishers: 1 };
    const publishers = await startPublishers(site, topic, { ...rate, seed: bench.seed });
    const loads: LoadProcess<PublishResult | { readonly endToEnd: HistogramData }>[] = [...publishers, ...consumers];
    for (const load of loads) load.start();
    const { results, cost } = await measureAndEnd(bench, site, interval, loads);
    const latency = Histogram.of(results.flatMap((result) => ('endToEnd' in result ? [result.endToEnd] : [])));
    return published(
      results.filter((result) => 'messages' in result),
      cost,
      latency,
    );
  });
}

/** 500 members join 50 groups with JoinGroup, one after the other in each group. */
function joinTurn(bench: Bench, site: Site): Promise<Turn> {
  return site.withTopic(partitions, async (topic) => {
    const meter = new Meter(bench.database, site.broker.pid, []);
    await meter.begin();
    const loads = await startMembers(site, topic);
    const cost = await meter.end();
    const results = await Promise.all(loads.map((load) => load.collect()));
    await stopAll(loads);
    await endAll(loads);
    const messages = sum(results, ({ joins }) => joins);
    const perSecond = (messages / Math.max(...results.map(({ joinMs }) => joinMs))) * 1000;
    return { messages, perSecond, latency: null, cost };
  });
}

/** The same members send heartbeats as fast as they are answered. */
function heartbeatTurn(bench: Bench, site: Site, interval: Interval): Promise<Turn> {
  return site.withTopic(partitions, async (topic) => {
    const loads = await startMembers(site, topic);
    for (const load of loads) load.start();
    const { results, cost } = await measureAndEnd(bench, site, interval, loads);
    return {
      messages: sum(results, ({ heartbeats }) => heartbeats),
      perSecond: sum(results, ({ heartbeats, elapsedMs }) => (heartbeats / elapsedMs) * 1000),
      latency: null,
      cost,
    };
  });
}

function startMembers(site: Site, topic: string): Promise<LoadProcess<HeartbeatResult>[]> {
  return Promise.all(
    [0, 1].map((process) =>
      startLoad<HeartbeatSpec, HeartbeatResult>('heartbeats', {
        address: site.broker.grpcAddress,
        topic,
        groups: Array.from({ length: 25 }, (_, at) => `${topic}-${process}-${at}`),
        membersPerGroup: 10,
        joinsInFlight: 32,
        heartbeatsInFlight: 64,
      }),
    ),
  );
}

async function measureAndEnd<Result>(
  bench: Bench,
  site: Site,
  interval: Interval,
  loads: readonly LoadProcess<Result>[],
): Promise<{ readonly results: Result[]; readonly cost: Cost }> {
  const measured = await measure(loads, bench.database, site.broker.pid, interval);
  await stopAll(loads);
  await endAll(loads);
  return measured;
}

function published(results: readonly PublishResult[], cost: Cost, latency: Histogram | null): Turn {
  return {
    messages: sum(results, ({ messages }) => messages),
    perSecond: sum(results, ({ messages, elapsedMs }) => (messages / elapsedMs) * 1000),
    latency,
    cost,
  };
}
