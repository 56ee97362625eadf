import { Histogram } from '../support/histogram.ts';
import { endAll, measure, stopAll, sum } from '../support/measure/interval.ts';
import { startLoad } from '../support/load-process.ts';
import type { LoadProcess } from '../support/load-process.ts';
import type { Cost } from '../support/measure/meter.ts';
import { bySize, selected, withBroker } from '../support/site.ts';
import type { Bench, Site } from '../support/site.ts';
import type { Cell } from '../support/table.ts';
import type { PublishResult } from '../load/publish.ts';
import type { RawAppendSpec } from '../load/raw-append.ts';
import { startPublishers, withNothing } from './millrace-load.ts';

const partitions = 6;
const inFlight = 8;

/** Targets in messages a second, by bytes of a record, for batches of 100 with 8 in flight. */
const targets: Readonly<Record<number, { ordinary: number; lean: number | null; ofRaw: number | null }>> = {
  100: { ordinary: 400_000, lean: 500_000, ofRaw: null },
  1024: { ordinary: 200_000, lean: 260_000, ofRaw: 50 },
  2048: { ordinary: 100_000, lean: null, ofRaw: 50 },
};

interface Point {
  readonly perSecond: number;
  readonly latency: Histogram;
  readonly cost: Cost;
  readonly messages: number;
}

export async function runAppend(bench: Bench): Promise<void> {
  await withBroker(bench, 'append', async (site) => {
    const rawUrl = await bench.database.create(`bench_raw_${process.pid}`);
    const sizes = batchSizes(bench);
    if (sizes.length > 0) await batches(bench, site, rawUrl, sizes);
    if (selected(bench, 'singles')) await singles(bench, site);
    await bench.database.drop(`bench_raw_${process.pid}`);
  });
}

interface BatchSize {
  readonly valueBytes: number;
  readonly batch: number;
}

/** Each size can be selected: `--only 'batches 1024x100'`. */
function batchSizes(bench: Bench): BatchSize[] {
  const values = bySize(bench, { smoke: [1024], full: [100, 1024, 2048] });
  const batches = bySize(bench, { smoke: [100], full: [1, 10, 100, 1000] });
  return values
    .flatMap((valueBytes) => batches.map((batch) => ({ valueBytes, batch })))
    .filter(({ valueBytes, batch }) => selected(bench, `batches ${valueBytes}x${batch}`));
}

/** Measures the same batches through the raw storage layer and through gRPC, in turn. */
async function batches(bench: Bench, site: Site, rawUrl: string, sizes: readonly BatchSize[]): Promise<void> {
  const rows: Cell[][] = [];
  for (const { valueBytes, batch } of sizes) {
    const ordinaryShape = { batch, valueBytes, client: 'ordinary' } as const;
    const leanShape = { ...ordinaryShape, client: 'lean' } as const;
    const raw = await rawAppend(bench, rawUrl, { batch, valueBytes });
    const ordinary = await publish(bench, site, ordinaryShape);
    rows.push(row(valueBytes, batch, 'raw append', raw, raw));
    rows.push(row(valueBytes, batch, 'gRPC', ordinary, raw));
    if (batch !== 100) continue;
    const lean = await publish(bench, site, leanShape);
    rows.push(row(valueBytes, batch, 'gRPC, lean', lean, raw));
    judge(bench, valueBytes, raw, ordinary, lean);
    rows.push(row(valueBytes, batch, 'to nothing', await publishToNothing(bench, ordinaryShape), raw));
    rows.push(row(valueBytes, batch, 'to nothing, lean', await publishToNothing(bench, leanShape), raw));
  }
  bench.report.section(
    `Append: ${inFlight} requests in flight, ${partitions} partitions, answered after the commit`,
    ['bytes', 'batch', 'by', ...columns],
    rows,
    [
      'CPU in microseconds for each message; raw: the storage layer in one process, without broker and clients.',
      'To nothing: a gRPC server that answers at once, without any work. What it reaches is what clients and transport allow.',
    ],
  );
}

function judge(bench: Bench, valueBytes: number, raw: Point, ordinary: Point, lean: Point): void {
  const target = targets[valueBytes]!;
  bench.report.atLeast(`publish ${valueBytes} B, batches of 100`, target.ordinary, ordinary.perSecond, 'msg/s');
  if (target.lean !== null) {
    bench.report.atLeast(`publish ${valueBytes} B, batches of 100, lean client`, target.lean, lean.perSecond, 'msg/s');
  }
  if (target.ofRaw !== null) {
    const percent = (ordinary.perSecond / raw.perSecond) * 100;
    bench.report.atLeast(`publish ${valueBytes} B against raw append`, target.ofRaw, percent, '%');
  }
}

/**
 * Measures single records: the latency of one request, and how well many requests share a commit.
 */
async function singles(bench: Bench, site: Site): Promise<void> {
  const one = { batch: 1, valueBytes: 1024, client: 'ordinary' } as const;
  const shapes = [
    { ...one, processes: 1, publishers: 1, inFlight: 1 },
    { ...one, publishers: 64, inFlight: 1 },
    { ...one, publishers: 64, inFlight: 8, call: 'stream' },
  ] as const;
  const points: Point[] = [];
  for (const shape of shapes) points.push(await publish(bench, site, shape));
  const nothing: Point[] = [];
  for (const shape of shapes) nothing.push(await publishToNothing(bench, shape));
  bench.report.section(
    'Single records of 1 KiB through gRPC',
    ['publishers', 'in flight', 'call', 'to', ...columns.slice(0, -1)],
    shapes.flatMap(({ publishers, inFlight, ...shape }, i) => {
      const what = [publishers, inFlight, 'call' in shape ? 'PublishStream' : 'Publish'];
      return [
        [...what, 'Millrace', ...figures(points[i]!)],
        [...what, 'nothing', ...figures(nothing[i]!)],
      ];
    }),
    [
      '64 publishers are 2 processes of 32; in flight is for each publisher.',
      'To nothing: a gRPC server that answers at once, without any work. What it reaches is what clients and transport allow.',
    ],
  );
  const [alone, unary, stream] = points as [Point, Point, Point];
  const p50Ms = alone.latency.percentileUs(0.5) / 1000;
  bench.report.atMost('one publisher, one record in flight, p50', 0.6, p50Ms, 'ms');
  bench.report.atLeast('64 publishers of single records, Publish', 15_000, unary.perSecond, 'msg/s');
  bench.report.atLeast('64 publishers of single records, PublishStream', 40_000, stream.perSecond, 'msg/s');
}

const columns = [
  'msg/s',
  'p50 ms',
  'p95 ms',
  'p99 ms',
  'CPU broker',
  'CPU database',
  'CPU clients',
  'WAL B/msg',
  'broker MiB',
  'database MiB',
  'clients MiB',
  '% of raw',
];

function row(valueBytes: number, batch: number, by: string, point: Point, raw: Point): Cell[] {
  return [valueBytes, batch, by, ...figures(point), Math.round((point.perSecond / raw.perSecond) * 100)];
}

function figures({ perSecond, latency, cost, messages }: Point): Cell[] {
  const { p50Ms, p95Ms, p99Ms } = latency.percentiles();
  return [
    Math.round(perSecond),
    p50Ms,
    p95Ms,
    p99Ms,
    (cost.brokerCpuMs * 1000) / messages,
    (cost.databaseCpuMs * 1000) / messages,
    (cost.clientsCpuMs * 1000) / messages,
    Math.round(cost.walBytes / messages),
    Math.round(cost.brokerMemoryPeakMib),
    Math.round(cost.databaseMemoryMib),
    Math.round(cost.clientsMemoryPeakMib),
  ];
}

interface PublishLoadShape {
  readonly batch: number;
  readonly valueBytes: number;
  readonly client: 'ordinary' | 'lean';
  readonly processes?: number;
  readonly publishers?: number;
  readonly inFlight?: number;
  readonly call?: 'unary' | 'stream';
}

/**
 * Uses two processes by default, because one cannot encode fast enough to reach the broker's limit.
 */
async function publish(bench: Bench, site: Site, shape: PublishLoadShape): Promise<Point> {
  bench.say(`publish ${shape.valueBytes} B, batches of ${shape.batch}, ${shape.client}, ${shape.call ?? 'unary'}`);
  const processes = shape.processes ?? 2;
  return site.withTopic(partitions, async (topic) => {
    const loads = await startPublishers(site, topic, {
      inFlight: inFlight / processes,
      ...shape,
      processes,
      seed: bench.seed,
    });
    return run(bench, loads, site.broker.pid);
  });
}

/** The same clients against a server that does nothing. */
async function publishToNothing(bench: Bench, shape: PublishLoadShape): Promise<Point> {
  bench.say(`the same to a server that does nothing, ${shape.call ?? 'unary'}`);
  const processes = shape.processes ?? 2;
  return withNothing(async (target, pid) => {
    const load = { inFlight: inFlight / processes, ...shape, processes, seed: bench.seed };
    return run(bench, await startPublishers(target, 'nothing', load), pid);
  });
}

async function rawAppend(
  bench: Bench,
  databaseUrl: string,
  shape: { batch: number; valueBytes: number },
): Promise<Point> {
  bench.say(`raw append ${shape.valueBytes} B, batches of ${shape.batch}`);
  const load = await startLoad<RawAppendSpec, PublishResult>('raw-append', {
    databaseUrl,
    partitions,
    inFlight,
    requestsPerSecond: null,
    seed: bench.seed,
    ...shape,
  });
  return run(bench, [load], null);
}

async function run(bench: Bench, loads: LoadProcess<PublishResult>[], brokerPid: number | null): Promise<Point> {
  for (const load of loads) load.start();
  const interval = bySize(bench, {
    smoke: { warmUpMs: 300, measureMs: 700 },
    full: { warmUpMs: 2_000, measureMs: 6_000 },
  });
  const { results, cost } = await measure(loads, bench.database, brokerPid, interval);
  await stopAll(loads);
  await endAll(loads);
  return {
    perSecond: sum(results, (result) => (result.messages / result.elapsedMs) * 1000),
    messages: sum(results, (result) => result.messages),
    latency: Histogram.of(results.map((result) => result.latency)),
    cost,
  };
}
