import type { Client } from '@grpc/grpc-js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { call, connect } from '../client/service-client.ts';
import { startBroker } from './broker-process.ts';
import type { BrokerOptions, BrokerProcess } from './broker-process.ts';
import type { Database } from './database.ts';
import type { Report } from './report.ts';
import { processUsage } from './measure/usage.ts';

/** The inputs of every benchmark. */
export interface Bench {
  readonly size: 'smoke' | 'full';
  readonly seed: number;
  readonly database: Database;
  readonly report: Report;
  /** Runs only scenarios whose name matches; null: all. */
  readonly only: RegExp | null;
  /** The directory for the broker's CPU profile; null: none is written. */
  readonly profileDir: string | null;
  /** The commit or directory that `turns` compares this tree with; null: this tree itself. */
  readonly against: string | null;
  /** The number of pairs of `turns`. */
  readonly pairs: number;
  /** The least that the lower end of a ratio of `turns` must reach. */
  readonly floor: number;
  /** The messages that a round of `retention` drops; null: its default. */
  readonly messages: number | null;
  say(text: string): void;
}

export function bySize<T>(bench: Bench, sizes: { readonly smoke: T; readonly full: T }): T {
  return bench.size === 'full' ? sizes.full : sizes.smoke;
}

export function selected(bench: Bench, scenario: string): boolean {
  return bench.only === null || bench.only.test(scenario);
}

/** The flags of Node that write the CPU profile. */
export function profileFlags({ profileDir }: Bench): string[] {
  return profileDir === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDir}`];
}

/** A broker with its own database. */
export interface Site {
  readonly broker: BrokerProcess;
  readonly databaseUrl: string;
  /** Creates a topic for `work` and deletes it afterwards. */
  withTopic<T>(partitions: number, work: (topic: string) => Promise<T>): Promise<T>;
}

const brokerMemoryMibMax = 512;

/** Starts a broker for `work`, and checks its peak memory. */
export async function withBroker<T>(
  bench: Bench,
  name: string,
  work: (site: Site) => Promise<T>,
  options: Pick<BrokerOptions, 'flags' | 'root' | 'nodeFlags' | 'heapMib'> = {},
): Promise<T> {
  const databaseName = `bench_${name}_${process.pid}`;
  const databaseUrl = await bench.database.create(databaseName);
  const nodeFlags = [...profileFlags(bench), ...(options.nodeFlags ?? [])];
  const broker = await startBroker({ databaseUrl, ...options, nodeFlags });
  const admin = connect(broker.grpcAddress);
  try {
    const result = await work({ broker, databaseUrl, withTopic: topics(admin) });
    const peakMib = processUsage(broker.pid)?.memoryPeakMib ?? NaN;
    bench.report.atMost(`${name}: memory of the broker at its peak`, brokerMemoryMibMax, peakMib, 'MiB');
    return result;
  } catch (error) {
    bench.say(`the broker's output:\n${broker.output()}`);
    throw error;
  } finally {
    admin.close();
    await broker.stop();
    await bench.database.drop(databaseName);
  }
}

function topics(admin: Client): Site['withTopic'] {
  let made = 0;
  return async (partitions, work) => {
    const name = `bench-${++made}`;
    await call(admin, TopicService.method.createTopic, { topic: { name, partitions } });
    const result = await work(name);
    await call(admin, TopicService.method.deleteTopic, { name });
    return result;
  };
}
