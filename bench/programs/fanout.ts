import { Histogram } from '../support/histogram.ts';
import { endAll, measure, stopAll, sum, Throttle } from '../support/measure/interval.ts';
import type { Interval } from '../support/measure/interval.ts';
import type { LoadProcess } from '../support/load-process.ts';
import type { Cost } from '../support/measure/meter.ts';
import { bySize, selected, withBroker } from '../support/site.ts';
import type { Bench, Site } from '../support/site.ts';
import type { Cell } from '../support/table.ts';
import type { PublishResult } from '../load/publish.ts';
import type { ConsumeResult } from '../load/consume.ts';
import { startConsumers, startPublishers } from './millrace-load.ts';

const partitions = 6;
/**
 * Publishers may be this many messages ahead of the slowest group, which fit into the tail cache.
 */
const window = 20_000;
const requestBytesMax = 4_194_304;

export interface FanOut {
  readonly groups: number;
  readonly valueBytes: number;
  readonly batch: number;
  /** Null: as fast as the slowest group allows. */
  readonly messagesPerSecond: number | null;
  readonly client: 'ordinary' | 'lean';
  readonly ackPerBatch: boolean;
  readonly stamped: boolean;
}

export interface FanOutResult {
  readonly publishedPerSecond: number;
  readonly deliveredPerSecond: number;
  readonly endToEnd: Histogram;
  readonly ack: Histogram;
  readonly cost: Cost;
  readonly published: number;
  readonly delivered: number;
}

export async function runFanout(bench: Bench): Promise<void> {
  await withBroker(bench, 'fanout', async (site) => {
    if (selected(bench, 'groups')) await scaling(bench, site);
    if (selected(bench, 'paced')) await paced(bench, site);
    if (selected(bench, 'wal')) await walPerMessage(bench, site);
    if (bench.size === 'full' && selected(bench, 'curve')) await curve(bench, site);
  });
}

/** Measures the rate and the cost by the number of groups. */
async function scaling(bench: Bench, site: Site): Promise<void> {
  const rows: Cell[][] = [];
  for (const groups of bySize(bench, { smoke: [1, 4], full: [1, 4, 8, 16, 32, 64, 128] })) {
    const result = await fanOut(bench, site, { ...defaults, groups, valueBytes: 2048, batch: 100 });
    rows.push(row(groups, result));
    judgeScaling(bench, groups, result);
  }
  bench.report.section(
    'Fan-out: 2 KiB, batches of 100, everything acked, as fast as lasts',
    ['groups', ...columns],
    rows,
    ['CPU in microseconds for each delivery; publishers wait for the slowest group.'],
  );
}

function judgeScaling(bench: Bench, groups: number, result: FanOutResult): void {
  const cpuUs = (result.cost.totalCpuMs * 1000) / result.delivered;
  if (groups === 4) {
    bench.report.atLeast('2 KiB to 4 groups, published', 50_000, result.publishedPerSecond, 'msg/s');
    bench.report.atLeast('2 KiB to 4 groups, delivered', 200_000, result.deliveredPerSecond, 'msg/s');
    bench.report.atMost('2 KiB to 4 groups, CPU of all processes', 15, cpuUs, 'µs/delivery');
  }
  if (groups === 64) {
    bench.report.atLeast('2 KiB to 64 groups, delivered', 450_000, result.deliveredPerSecond, 'msg/s');
    bench.report.atMost('2 KiB to 64 groups, CPU of all processes', 8, cpuUs, 'µs/delivery');
  }
}

/** Measures end to end at fixed rates. At a rate that is too high the latency grows without end. */
async function paced(bench: Bench, site: Site): Promise<void> {
  const rows: Cell[][] = [];
  for (const messagesPerSecond of bySize(bench, { smoke: [5_000], full: [10_000, 20_000, 30_000] })) {
    const load = { ...defaults, groups: 4, valueBytes: 2048, batch: 100, messagesPerSecond, stamped: true };
    const result = await fanOut(bench, site, load);
    rows.push([messagesPerSecond, ...row(4, result)]);
    if (messagesPerSecond !== 30_000) continue;
    const p95Ms = result.endToEnd.percentileUs(0.95) / 1000;
    bench.report.atMost('2 KiB at 30,000 msg/s to 4 groups, p95 end to end', 15, p95Ms, 'ms');
  }
  bench.report.section(
    'Fan-out at a fixed rate: 2 KiB, batches of 100, to 4 groups',
    ['msg/s', 'groups', ...columns],
    rows,
    ['End to end from when the publish was due to when the handler has the record.'],
  );
}

/** Measures the WAL of further groups. They cost the database only their acks. */
async function walPerMessage(bench: Bench, site: Site): Promise<void> {
  const rows: Cell[][] = [];
  const perMessage = new Map<number, number>();
  const messagesPerSecond = bySize(bench, { smoke: 5_000, full: 20_000 });
  for (const groups of bySize(bench, { smoke: [1, 8], full: [1, 4, 16, 64] })) {
    const load = { ...defaults, groups, valueBytes: 1024, batch: 100, messagesPerSecond };
    const result = await fanOut(bench, site, { ...load, client: 'lean', ackPerBatch: true });
    perMessage.set(groups, result.cost.walBytes / result.published);
    rows.push(row(groups, result));
  }
  bench.report.section(
    `WAL: 1 KiB, batches of 100, ${messagesPerSecond} msg/s, every group acks every batch`,
    ['groups', ...columns],
    rows,
    ['Lean consumers, which do not decode: 64 groups at this rate are 1.3 GB/s.'],
  );
  if (bench.size === 'full') {
    const moreWal = (perMessage.get(64)! / perMessage.get(1)! - 1) * 100;
    bench.report.atMost('WAL of a message, 64 groups against 1', 10, moreWal, '% more');
  }
}

/** Measures all combinations of batch, size and groups whose request fits into the limit. */
async function curve(bench: Bench, site: Site): Promise<void> {
  const rows: Cell[][] = [];
  for (const valueBytes of [512, 2048, 16_384]) {
    for (const batch of [100, 500, 2000]) {
      if (batch * (valueBytes + 16) > requestBytesMax) continue;
      for (const groups of [4, 8, 16]) {
        const result = await fanOut(bench, site, { ...defaults, groups, valueBytes, batch, stamped: true });
        rows.push([valueBytes, batch, ...row(groups, result)]);
      }
    }
  }
  bench.report.section('Throughput curve, everything acked', ['bytes', 'batch', 'groups', ...columns], rows, [
    'Batches of 500 and 2000 records of 16 KiB are larger than a request may be (4 MiB).',
  ]);
}

const defaults = { messagesPerSecond: null, client: 'ordinary', ackPerBatch: false, stamped: false } as const;

const columns = [
  'published/s',
  'delivered/s',
  'p50 ms',
  'p95 ms',
  'p99 ms',
  'ack p50 ms',
  'CPU broker',
  'CPU database',
  'CPU clients',
  'CPU all',
  'database cores',
  'WAL B/msg',
  'broker MiB',
  'database MiB',
  'clients MiB',
];

function row(groups: number, result: FanOutResult): Cell[] {
  const { cost, delivered, endToEnd, ack } = result;
  const perDelivery = (cpuMs: number): number => (cpuMs * 1000) / delivered;
  const latency = endToEnd.count === 0 ? null : endToEnd.percentiles();
  return [
    groups,
    Math.round(result.publishedPerSecond),
    Math.round(result.deliveredPerSecond),
    latency?.p50Ms ?? null,
    latency?.p95Ms ?? null,
    latency?.p99Ms ?? null,
    ack.percentileUs(0.5) / 1000,
    perDelivery(cost.brokerCpuMs),
    perDelivery(cost.databaseCpuMs),
    perDelivery(cost.clientsCpuMs),
    perDelivery(cost.totalCpuMs),
    cost.databaseCpuMs / cost.elapsedMs,
    Math.round(cost.walBytes / result.published),
    Math.round(cost.brokerMemoryPeakMib),
    Math.round(cost.databaseMemoryMib),
    Math.round(cost.clientsMemoryPeakMib),
  ];
}

/** Measures one point on a new topic. At the end every group has acked every message. */
export async function fanOut(
  bench: Bench,
  site: Site,
  load: FanOut,
  interval = usualInterval(bench),
): Promise<FanOutResult> {
  return site.withTopic(partitions, async (topic) => {
    bench.say(`${load.groups} groups, ${load.valueBytes} B, batches of ${load.batch}`);
    const { client, ackPerBatch, stamped } = load;
    const consumers = await startConsumers(site, topic, {
      partitions,
      groupCount: load.groups,
      client,
      ackPerBatch,
      stamped,
    });
    const publishers = await startPublishers(site, topic, {
      batch: load.batch,
      valueBytes: load.valueBytes,
      requestsPerSecond: load.messagesPerSecond === null ? null : load.messagesPerSecond / load.batch,
      limited: load.messagesPerSecond === null,
      seed: bench.seed,
    });
    return settle(bench, site.broker.pid, publishers, consumers, interval);
  });
}

function usualInterval(bench: Bench): Interval {
  return bySize(bench, {
    smoke: { warmUpMs: 300, measureMs: 1_000 },
    full: { warmUpMs: 4_000, measureMs: 10_000 },
  });
}

/** Measures both sides for an interval, then waits until the groups have acked everything. */
export async function settle(
  bench: Bench,
  brokerPid: number | null,
  publishers: readonly LoadProcess<PublishResult>[],
  consumers: readonly LoadProcess<ConsumeResult>[],
  interval = usualInterval(bench),
): Promise<FanOutResult> {
  const loads: readonly LoadProcess<PublishResult | ConsumeResult>[] = [...consumers, ...publishers];
  const throttle = new Throttle(publishers, consumers, window);
  for (const load of loads) load.start();
  const { results, cost } = await measure(loads, bench.database, brokerPid, interval);
  const consumed = results.slice(0, consumers.length) as ConsumeResult[];
  const published = results.slice(consumers.length) as PublishResult[];
  await stopAll(publishers);
  const finals = await Promise.all(publishers.map((publisher) => publisher.collect()));
  await throttle.drained(sum(finals, (final) => final.messagesInAll));
  await stopAll(consumers);
  await endAll(loads);
  return {
    published: sum(published, (result) => result.messages),
    delivered: sum(consumed, (result) => result.acked),
    publishedPerSecond: sum(published, (result) => (result.messages / result.elapsedMs) * 1000),
    deliveredPerSecond: sum(consumed, (result) => (result.acked / result.elapsedMs) * 1000),
    endToEnd: Histogram.of(consumed.map((result) => result.endToEnd)),
    ack: Histogram.of(consumed.map((result) => result.ackLatency)),
    cost,
  };
}
