import { Histogram } from '../support/histogram.ts';
import { endAll, stopAll } from '../support/measure/interval.ts';
import { startLoad } from '../support/load-process.ts';
import type { LoadProcess } from '../support/load-process.ts';
import { bySize, selected, withBroker } from '../support/site.ts';
import type { Bench, Site } from '../support/site.ts';
import { delay } from '../support/timing.ts';
import type { Cell } from '../support/table.ts';
import type { PublishResult } from '../load/publish.ts';
import type { ConsumeResult } from '../load/consume.ts';
import type { RawAppendSpec } from '../load/raw-append.ts';
import { startConsumers, startPublishers, withNothing, type Target } from './millrace-load.ts';

const partitions = 6;
const valueBytes = 1024;

interface Rate {
  readonly name: string;
  readonly perSecond: number;
  readonly call: 'unary' | 'stream';
  /** The number of streams or callers that share the rate. */
  readonly publishers: number;
}

const rates: readonly Rate[] = [
  { name: '100', perSecond: 100, call: 'unary', publishers: 1 },
  { name: '2000', perSecond: 2_000, call: 'unary', publishers: 1 },
  { name: '20000', perSecond: 20_000, call: 'stream', publishers: 4 },
];

/**
 * Latencies at one rate. All begin when a record was due. They end at its handler, at its
 * confirmation, at the commit of a raw append, and at the answer of a server that does nothing.
 */
interface Latencies {
  readonly endToEnd: Histogram;
  readonly confirmed: Histogram;
  readonly raw: Histogram;
  readonly nothing: Histogram;
}

export async function runLatency(bench: Bench): Promise<void> {
  await withBroker(bench, 'latency', async (site) => {
    const rawName = `bench_raw_${process.pid}`;
    const rawUrl = await bench.database.create(rawName);
    const rows: Cell[][] = [];
    for (const rate of rates.filter(({ name }) => selected(bench, name))) {
      const latencies = await measureRate(bench, site, rawUrl, rate);
      rows.push(row(rate, 'end to end', latencies.endToEnd));
      rows.push(row(rate, 'publish confirmed', latencies.confirmed));
      rows.push(row(rate, 'raw append', latencies.raw));
      rows.push(row(rate, 'answer of nothing', latencies.nothing));
      if (rate.perSecond === 2_000) judge(bench, latencies);
    }
    bench.report.section('Latency of single 1 KiB records at a fixed rate, one group', columns, rows, [
      'Open loop: measured from when a record was due, so a stall counts for every record it delayed.',
      'End to end: to when the handler has the decoded record. Raw, broker and nothing take turns within the run.',
      'Nothing: a gRPC server that answers the same publishers at once, without any work.',
    ]);
    await bench.database.drop(rawName);
  });
}

const columns = ['msg/s', 'call', 'what', 'records', 'p50 ms', 'p95 ms', 'p99 ms', 'max ms'];

function row(rate: Rate, what: string, histogram: Histogram): Cell[] {
  const { count, p50Ms, p95Ms, p99Ms, maxMs } = histogram.percentiles();
  return [rate.perSecond, rate.call === 'unary' ? 'Publish' : 'PublishStream', what, count, p50Ms, p95Ms, p99Ms, maxMs];
}

function judge(bench: Bench, { endToEnd, raw }: Latencies): void {
  const { p50Ms, p99Ms } = endToEnd.percentiles();
  bench.report.atMost('2,000 msg/s of 1 KiB, end to end, p50', 1, p50Ms, 'ms');
  bench.report.atMost('2,000 msg/s of 1 KiB, end to end, p99', 8, p99Ms, 'ms');
  bench.report.atMost(
    '2,000 msg/s of 1 KiB, p99 against the raw append',
    1.5,
    p99Ms / raw.percentiles().p99Ms,
    'times',
  );
}

/**
 * Measures raw, broker and nothing in turn for a few rounds, so that the machine affects all alike.
 */
async function measureRate(bench: Bench, site: Site, rawUrl: string, rate: Rate): Promise<Latencies> {
  const latencies = {
    endToEnd: new Histogram(),
    confirmed: new Histogram(),
    raw: new Histogram(),
    nothing: new Histogram(),
  };
  const rounds = bySize(bench, { smoke: 1, full: 4 });
  for (let round = 1; round <= rounds; round++) {
    bench.say(`${rate.perSecond} msg/s, round ${round} of ${rounds}`);
    await rawRound(bench, rawUrl, rate, latencies);
    await brokerRound(bench, site, rate, latencies);
    await nothingRound(bench, rate, latencies);
  }
  return latencies;
}

async function rawRound(bench: Bench, databaseUrl: string, rate: Rate, latencies: Latencies): Promise<void> {
  const load = await startLoad<RawAppendSpec, PublishResult>('raw-append', {
    databaseUrl,
    partitions,
    inFlight: 0,
    batch: 1,
    valueBytes,
    requestsPerSecond: rate.perSecond,
    seed: bench.seed,
  });
  const [result] = await runFor(bench, [load]);
  latencies.raw.add(result!.latency);
}

async function nothingRound(bench: Bench, rate: Rate, latencies: Latencies): Promise<void> {
  await withNothing(async (target) => {
    const results = await runFor(bench, await startRate(bench, target, 'nothing', rate));
    for (const { latency } of results) latencies.nothing.add(latency);
  });
}

function startRate(bench: Bench, target: Target, topic: string, rate: Rate): Promise<LoadProcess<PublishResult>[]> {
  return startPublishers(target, topic, {
    batch: 1,
    valueBytes,
    call: rate.call,
    publishers: rate.publishers,
    requestsPerSecond: rate.perSecond,
    seed: bench.seed,
  });
}

async function brokerRound(bench: Bench, site: Site, rate: Rate, latencies: Latencies): Promise<void> {
  await site.withTopic(partitions, async (topic) => {
    const consumers = await startConsumers(site, topic, { partitions, groupCount: 1, stamped: true });
    const publishers = await startRate(bench, site, topic, rate);
    const results = await runFor<PublishResult | ConsumeResult>(bench, [...publishers, ...consumers]);
    for (const result of results) {
      if ('endToEnd' in result) latencies.endToEnd.add(result.endToEnd);
      else latencies.confirmed.add(result.latency);
    }
  });
}

async function runFor<Result>(bench: Bench, loads: readonly LoadProcess<Result>[]): Promise<Result[]> {
  for (const load of loads) load.start();
  await delay(bySize(bench, { smoke: 300, full: 2_000 }));
  for (const load of loads) load.mark();
  await delay(bySize(bench, { smoke: 700, full: 8_000 }));
  const results = await Promise.all(loads.map((load) => load.collect()));
  await stopAll(loads);
  await endAll(loads);
  return results;
}
