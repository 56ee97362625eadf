import pg from 'pg';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { call, connect } from '../client/service-client.ts';
import type { PublishResult } from '../load/publish.ts';
import { Histogram } from '../support/histogram.ts';
import type { LoadProcess } from '../support/load-process.ts';
import { endAll, stopAll, sum } from '../support/measure/interval.ts';
import { bySize, selected, withBroker, type Bench, type Site } from '../support/site.ts';
import { nodeFlagsOfSegments } from '../support/small-segments.ts';
import type { Cell } from '../support/table.ts';
import { delay, waitFor } from '../support/timing.ts';
import { startPublishers } from './millrace-load.ts';

const partitions = 6;
const valueBytes = 1024;
const smokeSegmentBytes = 8 * 1024 * 1024;
/** The shortest time that a topic without subscriptions keeps records. */
const keptMs = 60_000;

/** What another session does while segments are dropped. */
type Beside = 'nothing' | 'snapshot' | 'reader';
const besides: readonly Beside[] = ['nothing', 'snapshot', 'reader'];

interface Round {
  readonly without: Histogram;
  readonly during: Histogram;
  readonly segments: number;
  readonly bytes: number;
  /** From the first plan of a drop to the end of the last one. */
  readonly dropMs: number;
  readonly publishedBytesPerSecond: number;
}

/**
 * Drops the segments of many messages while publishers go on, and compares their latencies with
 * those before. Each round has a topic of its own: it is filled, its records grow old, and a
 * retention is set.
 */
export async function runRetention(bench: Bench): Promise<void> {
  const nodeFlags = bySize(bench, { smoke: nodeFlagsOfSegments(smokeSegmentBytes), full: [] });
  await withBroker(
    bench,
    'retention',
    async (site) => {
      for (const beside of besides.filter((name) => selected(bench, name))) {
        const rounds: Round[] = [];
        for (let round = 1; round <= bySize(bench, { smoke: 1, full: 5 }); round += 1) {
          bench.say(`segments are dropped beside ${beside}, round ${round}`);
          rounds.push(await measured(bench, site, `${beside}-${round}`, beside));
        }
        tell(bench, beside, rounds);
      }
    },
    { nodeFlags },
  );
}

async function measured(bench: Bench, site: Site, topic: string, beside: Beside): Promise<Round> {
  const admin = connect(site.broker.grpcAddress);
  const database = new pg.Client({ connectionString: site.databaseUrl });
  await database.connect();
  try {
    const retention = { completion: { case: 'keepForever', value: true } } as const;
    await call(admin, TopicService.method.createTopic, { topic: { name: topic, partitions, retention } });
    await fill(bench, site, topic, database);
    const publishers = await startPublishers(site, topic, {
      batch: 10,
      valueBytes,
      requestsPerSecond: bySize(bench, { smoke: 50, full: 500 }),
      seed: bench.seed,
    });
    for (const load of publishers) load.start();
    await delay(bySize(bench, { smoke: 500, full: 3_000 }));
    const before = await interval(publishers, () => delay(bySize(bench, { smoke: 3_000, full: 30_000 })));
    const other = await otherSession(site.databaseUrl, beside, topic, database);
    await forget(admin, topic);
    const during = await interval(publishers, async () => {
      await waitFor('the first plan of a drop', 120_000, 50, async () => (await drops(database, topic)).count > 0);
      await delay(beside === 'nothing' ? 0 : bySize(bench, { smoke: 2_000, full: 60_000 }));
      await other();
      await waitFor('the end of all drops', 600_000, 50, async () => (await drops(database, topic)).open === 0);
    });
    await stopAll(publishers);
    await endAll(publishers);
    const { count, bytes, dropMs } = await drops(database, topic);
    const publishedBytesPerSecond = (during.messages * valueBytes * 1_000) / during.elapsedMs;
    return { without: before.latency, during: during.latency, segments: count, bytes, dropMs, publishedBytesPerSecond };
  } finally {
    await call(admin, TopicService.method.deleteTopic, { name: topic });
    admin.close();
    await database.end();
  }
}

/** Publishes as fast as it can until there are enough messages, which are older than `keptMs`. */
async function fill(bench: Bench, site: Site, topic: string, database: pg.Client): Promise<void> {
  const messages = bench.messages ?? bySize(bench, { smoke: 40_000, full: 2_000_000 });
  const publishers = await startPublishers(site, topic, { batch: 100, valueBytes, client: 'lean', seed: bench.seed });
  for (const load of publishers) load.start();
  await waitFor('enough messages', 900_000, 100, async () => {
    const results = await Promise.all(publishers.map((load) => load.collect()));
    return sum(results, ({ messagesInAll }) => messagesInAll) >= messages;
  });
  await stopAll(publishers);
  await endAll(publishers);
  // They grow old at once: nothing else in the database depends on these times.
  await database.query(
    `UPDATE millrace.segment_bases SET last_appended_at = last_appended_at - $2 * interval '1 ms'
      WHERE topic_id = (SELECT id FROM millrace.topics WHERE name = $1)`,
    [topic, 2 * keptMs],
  );
}

/** From now on records without subscriptions go after a minute. */
async function forget(admin: ReturnType<typeof connect>, topic: string): Promise<void> {
  const minute = { seconds: BigInt(keptMs / 1_000), nanos: 0 };
  await call(admin, TopicService.method.updateTopic, {
    topic: {
      name: topic,
      retention: { completion: { case: 'afterCompletion', value: minute } },
      zeroSubscriptions: { policy: { case: 'keepFor', value: minute } },
    },
    updateMask: { paths: ['retention.after_completion', 'zero_subscriptions.keep_for'] },
  });
}

interface Interval {
  readonly latency: Histogram;
  readonly messages: number;
  readonly elapsedMs: number;
}

async function interval(
  publishers: readonly LoadProcess<PublishResult>[],
  work: () => Promise<void>,
): Promise<Interval> {
  for (const load of publishers) load.mark();
  await work();
  const results = await Promise.all(publishers.map((load) => load.collect()));
  return {
    latency: Histogram.of(results.map(({ latency }) => latency)),
    messages: sum(results, ({ messages }) => messages),
    elapsedMs: Math.max(...results.map(({ elapsedMs }) => elapsedMs)),
  };
}

/** Another session with an open transaction. @returns what ends it. */
async function otherSession(
  databaseUrl: string,
  beside: Beside,
  topic: string,
  database: pg.Client,
): Promise<() => Promise<void>> {
  if (beside === 'nothing') return () => Promise.resolve();
  const session = new pg.Client({ connectionString: databaseUrl, application_name: 'millrace-bench-other' });
  session.on('error', () => undefined);
  await session.connect();
  await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await session.query('SELECT pg_current_xact_id()');
  if (beside === 'reader') {
    const { rows } = await database.query<{ id: number }>('SELECT id FROM millrace.topics WHERE name = $1', [topic]);
    await session.query(`LOCK TABLE ONLY millrace.record_batches_${rows[0]!.id} IN ACCESS SHARE MODE`);
  }
  return async () => {
    await session.query('ROLLBACK');
    await session.end();
  };
}

interface Drops {
  readonly count: number;
  readonly open: number;
  readonly bytes: number;
  readonly dropMs: number;
}

async function drops(database: pg.Client, topic: string): Promise<Drops> {
  const { rows } = await database.query<Drops>(
    `SELECT count(*)::integer AS count, count(*) FILTER (WHERE done_at IS NULL)::integer AS open,
            coalesce(sum(bytes), 0)::float8 AS bytes,
            coalesce(extract(epoch FROM max(done_at) - min(planned_at)) * 1000, 0)::float8 AS "dropMs"
       FROM millrace.segment_drops WHERE topic_name = $1 AND reason = 'ZERO_SUBSCRIPTIONS'`,
    [topic],
  );
  return rows[0]!;
}

const columns = [
  'round',
  'segments',
  'MiB',
  'MiB/s dropped',
  'MiB/s published',
  'p99 ms before',
  'p99 ms',
  'p99.9 ms before',
  'p99.9 ms',
];

function tell(bench: Bench, beside: Beside, rounds: readonly Round[]): void {
  const mib = 1_048_576;
  const ms = (histogram: Histogram, part: number): number => histogram.percentileUs(part) / 1_000;
  const rows = rounds.map((round, index): Cell[] => [
    index + 1,
    round.segments,
    Math.round(round.bytes / mib),
    round.bytes / mib / (round.dropMs / 1_000),
    round.publishedBytesPerSecond / mib,
    ms(round.without, 0.99),
    ms(round.during, 0.99),
    ms(round.without, 0.999),
    ms(round.during, 0.999),
  ]);
  bench.report.section(`Segments dropped while publishing 1 KiB records, beside ${what[beside]}`, columns, rows);
  const all = (of: (round: Round) => Histogram): Histogram => Histogram.of(rounds.map((round) => of(round).toData()));
  const [before, during] = [all(({ without }) => without), all((round) => round.during)];
  const name = `drops beside ${beside}`;
  bench.report.atMost(`${name}: publish p99`, 3, ms(during, 0.99) / ms(before, 0.99), 'times that without');
  bench.report.atMost(`${name}: publish p99.9`, 2, ms(during, 0.999) / ms(before, 0.999), 'times that without');
  if (beside !== 'nothing') return;
  const slowest = Math.min(...rounds.map((one) => one.bytes / (one.dropMs / 1_000) / one.publishedBytesPerSecond));
  bench.report.atLeast(`${name}: cleanup`, 2, slowest, 'times the publish rate');
}

const what: Readonly<Record<Beside, string>> = {
  nothing: 'nothing else',
  snapshot: 'a transaction with an old snapshot',
  reader: 'a reader of the topic',
};
