import pg from 'pg';
import { SubscriptionService } from '../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { call, connect } from '../client/service-client.ts';
import { countQueries } from '../support/counted-queries.ts';
import { startBroker } from '../support/broker-process.ts';
import type { BrokerProcess } from '../support/broker-process.ts';
import { endAll, stopAll } from '../support/measure/interval.ts';
import { bySize, selected } from '../support/site.ts';
import type { Bench } from '../support/site.ts';
import { delay } from '../support/timing.ts';
import { startConsumers, startPublishers } from './millrace-load.ts';

const partitions = 6;

/** Measures how soon a broker serves again, while its database runs on. */
export async function runRestart(bench: Bench): Promise<void> {
  if (selected(bench, 'work')) await restartAtWork(bench);
  if (selected(bench, 'dead')) await restartOfDead(bench);
}

/** After SIGTERM and SIGKILL, with groups at work. */
async function restartAtWork(bench: Bench): Promise<void> {
  const name = `bench_restart_${process.pid}`;
  const databaseUrl = await bench.database.create(name);
  const rounds = bySize(bench, { smoke: 1, full: 5 });
  const times: Record<string, number[]> = { 'first start': [], SIGTERM: [], SIGKILL: [] };
  let broker = await startBroker({ databaseUrl });
  times['first start']!.push(broker.startMs);
  for (let round = 0; round < rounds; round++) {
    await leaveWork(bench, broker, `restart-${round}`);
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      broker.kill(signal);
      await broker.exited;
      broker = await startBroker({ databaseUrl });
      times[signal]!.push(broker.startMs);
    }
  }
  await broker.stop();
  await bench.database.drop(name);
  bench.report.section(
    'Restart of a broker: from the start of its process until /readyz answers 200',
    ['after', 'times', 'fastest ms', 'slowest ms'],
    Object.entries(times).map(([after, ms]) => [
      after,
      ms.length,
      Math.round(Math.min(...ms)),
      Math.round(Math.max(...ms)),
    ]),
  );
  const slowestMs = Math.max(...times['SIGTERM']!, ...times['SIGKILL']!);
  bench.report.atMost('restart of a broker, serving', 1_000, slowestMs, 'ms');
}

/** Leaves topics, groups, cursors and an ack log that the next start must load. */
async function leaveWork(bench: Bench, broker: BrokerProcess, topic: string): Promise<void> {
  const admin = connect(broker.grpcAddress);
  await call(admin, TopicService.method.createTopic, { topic: { name: topic, partitions } });
  admin.close();
  const consumers = await startConsumers({ broker }, topic, { partitions, groupCount: 16 });
  const publishers = await startPublishers({ broker }, topic, { batch: 100, valueBytes: 1024, seed: bench.seed });
  for (const load of [...publishers, ...consumers]) load.start();
  await delay(bySize(bench, { smoke: 300, full: 2_000 }));
  await stopAll(publishers);
  await stopAll(consumers);
  await endAll([...publishers, ...consumers]);
}

/** With many topics, each with a DEAD subscription, and what they cost while nothing happens. */
async function restartOfDead(bench: Bench): Promise<void> {
  const name = `bench_dead_${process.pid}`;
  const databaseUrl = await bench.database.create(name);
  const queries = await countQueries(databaseUrl);
  const count = bySize(bench, { smoke: 20, full: 10_000 });
  let broker = await startBroker({ databaseUrl: queries.url });
  await subscribeMany(broker, count);
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  const idleMs = bySize(bench, { smoke: 2_000, full: 60_000 });
  const rows: (string | number)[][] = [];
  const states = ['ACTIVE', 'DEAD'] as const;
  const rates: number[] = [];
  const times: number[] = [];
  for (const state of states) {
    await database.query(
      `UPDATE millrace.subscriptions SET state = $1, state_reason = $2, state_changed_at = now(), unattended_since = $3`,
      state === 'DEAD' ? [state, 'UNATTENDED', new Date()] : [state, 'CREATED', null],
    );
    broker.kill('SIGKILL');
    await broker.exited;
    broker = await startBroker({ databaseUrl: queries.url });
    const firstMs = await firstAnswer(broker, count - 1);
    // All groups are in memory then, and so are the first looks at each topic.
    await delay(bySize(bench, { smoke: 1_000, full: 60_000 }));
    const before = queries.sent();
    await delay(idleMs);
    const perSecond = (queries.sent() - before) / (idleMs / 1_000);
    rates.push(perSecond);
    times.push(broker.startMs);
    rows.push([state, count, Math.round(broker.startMs), Math.round(firstMs), perSecond.toFixed(2)]);
  }
  await database.end();
  await broker.stop();
  queries.close();
  await bench.database.drop(name);
  bench.report.section(
    'Restart after SIGKILL with topics of one segment, each with a subscription without a member',
    ['subscriptions', 'each', 'serving ms', 'first answer ms', 'idle queries/s'],
    rows,
  );
  bench.report.atMost('restart with DEAD subscriptions, serving', 3_000, times.at(-1)!, 'ms');
  bench.report.atMost('idle subscriptions, queries a second', 5, Math.max(...rates), '/s');
}

const topicOf = (n: number): string => `idle-${n}`;

async function subscribeMany(broker: BrokerProcess, count: number): Promise<void> {
  const admin = connect(broker.grpcAddress);
  let next = 0;
  const work = async (): Promise<void> => {
    for (let n = next++; n < count; n = next++) {
      await call(admin, TopicService.method.createTopic, { topic: { name: topicOf(n), partitions: 1 } });
      await call(admin, SubscriptionService.method.createSubscription, { group: topicOf(n), topic: topicOf(n) });
    }
  };
  await Promise.all(Array.from({ length: 16 }, work));
  admin.close();
}

/** The time until a call on a subscription is answered, which waits until its group is loaded. */
async function firstAnswer(broker: BrokerProcess, n: number): Promise<number> {
  const client = connect(broker.grpcAddress);
  const beganMs = performance.now();
  await call(client, SubscriptionService.method.getSubscription, { group: topicOf(n), topic: topicOf(n) });
  client.close();
  return performance.now() - beganMs;
}
