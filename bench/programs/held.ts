import pg from 'pg';
import { Histogram } from '../support/histogram.ts';
import { endAll, stopAll, sum, Throttle } from '../support/measure/interval.ts';
import type { LoadProcess } from '../support/load-process.ts';
import { bySize, withBroker } from '../support/site.ts';
import type { Bench, Site } from '../support/site.ts';
import { delay } from '../support/timing.ts';
import type { Cell } from '../support/table.ts';
import type { ConsumeResult } from '../load/consume.ts';
import type { PublishResult } from '../load/publish.ts';
import { startConsumers, startPublishers } from './millrace-load.ts';

const partitions = 6;
const window = 20_000;

interface Slice {
  readonly held: boolean;
  readonly atMs: number;
  readonly publishedPerSecond: number;
  readonly publish: Histogram;
  readonly ack: Histogram;
}

/**
 * Measures publish and ack before, during and after a transaction that another session holds open.
 * PostgreSQL then keeps dead row versions, which slow down rows that are updated often. The broker
 * must not get slower. A drift of the machine shows in both free phases.
 */
export async function runHeld(bench: Bench): Promise<void> {
  await withBroker(bench, 'held', async (site) => {
    const slices = await site.withTopic(partitions, (topic) => underLoad(bench, site, topic));
    bench.report.section(
      'A transaction held open elsewhere: 1 KiB, batches of 100, 4 groups, everything acked',
      ['at s', 'transaction', 'published/s', 'publish p50 ms', 'publish p99 ms', 'ack p50 ms', 'ack p99 ms'],
      slices.map(row),
    );
    judge(bench, slices);
  });
}

function row(slice: Slice): Cell[] {
  return [
    Math.round(slice.atMs / 1000),
    slice.held ? 'held' : 'free',
    Math.round(slice.publishedPerSecond),
    slice.publish.percentileUs(0.5) / 1000,
    slice.publish.percentileUs(0.99) / 1000,
    slice.ack.percentileUs(0.5) / 1000,
    slice.ack.percentileUs(0.99) / 1000,
  ];
}

function judge(bench: Bench, slices: readonly Slice[]): void {
  const free = slices.filter((slice) => !slice.held);
  const held = slices.filter((slice) => slice.held);
  const rate = (of: readonly Slice[]): number => sum(of, (slice) => slice.publishedPerSecond) / of.length;
  const ackUs = (of: readonly Slice[]): number => Histogram.of(of.map((slice) => slice.ack.toData())).percentileUs(0.5);
  const slower = (1 - rate(held) / rate(free)) * 100;
  bench.report.atMost('transaction held open: publish rate', 10, slower, '% less');
  bench.report.atMost('transaction held open: ack latency, p50', 10, (ackUs(held) / ackUs(free) - 1) * 100, '% more');
}

async function underLoad(bench: Bench, site: Site, topic: string): Promise<Slice[]> {
  const load = { partitions, groupCount: 4, client: 'lean', ackPerBatch: true } as const;
  const consumers = await startConsumers(site, topic, load);
  const publishers = await startPublishers(site, topic, {
    batch: 100,
    valueBytes: 1024,
    limited: true,
    seed: bench.seed,
  });
  const loads: readonly LoadProcess<PublishResult | ConsumeResult>[] = [...publishers, ...consumers];
  new Throttle(publishers, consumers, window);
  for (const each of loads) each.start();
  await delay(bySize(bench, { smoke: 1_000, full: 5_000 }));
  const phases = bySize(bench, { smoke: [1, 2, 1], full: [6, 12, 6] });
  const startedAtMs = performance.now();
  const slices: Slice[] = [];
  for (const [phase, count] of phases.entries()) {
    const release = phase === 1 ? await holdTransaction(site.databaseUrl) : null;
    bench.say(release === null ? 'no transaction held' : 'a transaction is held');
    for (let i = 0; i < count; i++) slices.push(await slice(bench, loads, release !== null, startedAtMs));
    await release?.();
  }
  await stopAll(loads);
  await endAll(loads);
  return slices;
}

async function slice(
  bench: Bench,
  loads: readonly LoadProcess<PublishResult | ConsumeResult>[],
  held: boolean,
  startedAtMs: number,
): Promise<Slice> {
  const atMs = performance.now() - startedAtMs;
  for (const load of loads) load.mark();
  await delay(bySize(bench, { smoke: 1_000, full: 5_000 }));
  const results = await Promise.all(loads.map((load) => load.collect()));
  const published = results.filter((result) => 'latency' in result);
  const consumed = results.filter((result) => 'ackLatency' in result);
  return {
    held,
    atMs,
    publishedPerSecond: sum(published, (result) => (result.messages / result.elapsedMs) * 1000),
    publish: Histogram.of(published.map((result) => result.latency)),
    ack: Histogram.of(consumed.map((result) => result.ackLatency)),
  };
}

/** Begins a transaction with an id and a snapshot, like a long report or a forgotten session. */
async function holdTransaction(databaseUrl: string): Promise<() => Promise<void>> {
  const session = new pg.Client({ connectionString: databaseUrl, application_name: 'millrace-bench-held' });
  session.on('error', () => undefined);
  await session.connect();
  await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await session.query('SELECT pg_current_xact_id()');
  return async () => {
    await session.query('ROLLBACK');
    await session.end();
  };
}
