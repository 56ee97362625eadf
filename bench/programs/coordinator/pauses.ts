import { connect } from '../../client/service-client.ts';
import { joinByStream } from '../../client/joining.ts';
import type { SteadyResult, SteadySpec } from '../../load/steady.ts';
import { Histogram } from '../../support/histogram.ts';
import { endAll, stopAll } from '../../support/measure/interval.ts';
import { startLoad } from '../../support/load-process.ts';
import type { LoadProcess } from '../../support/load-process.ts';
import { bySize, withBroker } from '../../support/site.ts';
import type { Bench, Site } from '../../support/site.ts';
import type { Cell } from '../../support/table.ts';
import { delay } from '../../support/timing.ts';
import { startPublishers } from '../millrace-load.ts';

const members = 8;
const partitions = 64;
const messagesPerSecond = 2_000;
/** The time from one join to the next. The member leaves after half of it. */
const joinEveryMs = 1_000;
const excessMsMax = 20;

/** The measurements of each stream, without joins or with joins. */
interface Silences {
  readonly gaps: Histogram[];
  readonly latencies: Histogram[];
}

/** Measures the silence of streams that stay, in turn without and with joins of other members. */
export async function runPauses(bench: Bench): Promise<void> {
  await withBroker(bench, 'pauses', async (site) => {
    const [calm, busy] = await site.withTopic(partitions, (topic) => underLoad(bench, site, topic));
    bench.report.section(
      `Streams that stay: ${members} of them, ${partitions} partitions, ${messagesPerSecond} msg/s, a join and a leave every second`,
      ['what', 'joins', 'count', 'p50 ms', 'p99 ms', 'p99.9 ms', 'max ms'],
      [
        row('silence of a stream', 'without', calm.gaps),
        row('silence of a stream', 'with', busy.gaps),
        row('end to end', 'without', calm.latencies),
        row('end to end', 'with', busy.latencies),
      ],
      [
        'Silence: from one batch of a stream to its next. The two take turns; all eight streams together.',
        `The target compares each stream with itself: its longest silence with joins, beyond its p99.9 without.`,
      ],
    );
    const excess = (of: (silences: Silences) => Histogram[]): number => {
      const beyond = of(busy).map(({ maxUs }, at) => maxUs - of(calm)[at]!.percentileUs(0.999));
      return Math.max(...beyond) / 1000;
    };
    const gapExcess = excess(({ gaps }) => gaps);
    bench.report.atMost('longest silence of a stream, beyond its p99.9 without joins', excessMsMax, gapExcess, 'ms');
  });
}

function row(what: string, joins: string, histograms: readonly Histogram[]): Cell[] {
  const all = Histogram.of(histograms.map((one) => one.toData()));
  const { count, p50Ms, p99Ms, maxMs } = all.percentiles();
  return [what, joins, count, p50Ms, p99Ms, all.percentileUs(0.999) / 1000, maxMs];
}

async function underLoad(bench: Bench, site: Site, topic: string): Promise<[Silences, Silences]> {
  const group = `${topic}-group`;
  const address = site.broker.grpcAddress;
  const spec = { address, topic, partitions, group, members };
  const streams = await startLoad<SteadySpec, SteadyResult>('steady', spec);
  const publishers = await startPublishers(site, topic, {
    batch: 1,
    valueBytes: 256,
    call: 'stream',
    publishers: 4,
    requestsPerSecond: messagesPerSecond,
    seed: bench.seed,
  });
  for (const publisher of publishers) publisher.start();
  await delay(bySize(bench, { smoke: 500, full: 5_000 }));
  const [calm, busy] = [noSilences(), noSilences()];
  const client = connect(address);
  const rounds = bySize(bench, { smoke: 1, full: 3 });
  const ms = bySize(bench, { smoke: 1_000, full: 20_000 });
  for (let round = 1; round <= rounds; round++) {
    bench.say(`round ${round} of ${rounds}: no joins, then joins`);
    await listen(streams, calm, () => delay(ms));
    await listen(streams, busy, () => comeAndGo(client, group, topic, ms));
  }
  client.close();
  await stopAll([...publishers, streams]);
  await endAll([...publishers, streams]);
  return [calm, busy];
}

function noSilences(): Silences {
  const none = (): Histogram[] => Array.from({ length: members }, () => new Histogram());
  return { gaps: none(), latencies: none() };
}

async function listen(streams: LoadProcess<SteadyResult>, into: Silences, work: () => Promise<void>): Promise<void> {
  streams.mark();
  await work();
  const { gaps, latencies } = await streams.collect();
  for (const [at, data] of gaps.entries()) into.gaps[at]!.add(data);
  for (const [at, data] of latencies.entries()) into.latencies[at]!.add(data);
}

async function comeAndGo(client: ReturnType<typeof connect>, group: string, topic: string, ms: number): Promise<void> {
  for (let untilMs = performance.now() + ms; performance.now() < untilMs;) {
    const nextMs = performance.now() + joinEveryMs;
    const late = await joinByStream(client, group, [topic]);
    await delay(joinEveryMs / 2);
    late.leave();
    await delay(Math.max(0, nextMs - performance.now()));
  }
}
