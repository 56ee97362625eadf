import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { call, connect } from '../client/service-client.ts';
import { startBroker } from '../support/broker-process.ts';
import type { BrokerProcess } from '../support/broker-process.ts';
import { endAll, stopAll } from '../support/measure/interval.ts';
import { bySize } from '../support/site.ts';
import type { Bench } from '../support/site.ts';
import { delay } from '../support/timing.ts';
import { startConsumers, startPublishers } from './millrace-load.ts';

const partitions = 6;

/** Measures how soon a broker serves again after SIGTERM or SIGKILL, while its database runs on. */
export async function runRestart(bench: Bench): Promise<void> {
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
