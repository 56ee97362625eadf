import { status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { call, connect } from '../../client/service-client.ts';
import { startBroker } from '../../support/broker-process.ts';
import type { BrokerProcess } from '../../support/broker-process.ts';
import { fillGroups } from '../../support/fill-groups.ts';
import { bySize, profileFlags } from '../../support/site.ts';
import type { Bench } from '../../support/site.ts';
import type { Cell } from '../../support/table.ts';
import { delay, waitFor } from '../../support/timing.ts';
import { processUsage } from '../../support/usage.ts';
import { makeTopics } from './streams.ts';

const membersPerGroup = 10;
const partitions = 10;
/**
 * Larger than the heap of `npm start`, which does not hold the ten thousand groups measured here.
 */
const heapMib = 2_048;
/** Time for a standby to see that the active broker is alive. */
const watchMs = 1_000;

/** The ways to end the active broker, and the limit until the next one answers a member. */
const ends = {
  SIGKILL: { word: 'kill -9', answeredMsMax: 2_000 },
  SIGSTOP: { word: 'frozen', answeredMsMax: 10_000 },
} as const;
type End = keyof typeof ends;

/**
 * Measures how long members have no broker when the active one dies, with few groups and with many.
 */
export async function runTakeover(bench: Bench): Promise<void> {
  const rows: Cell[][] = [];
  const causes: readonly End[] = bySize(bench, { smoke: ['SIGKILL'], full: ['SIGKILL', 'SIGSTOP'] });
  for (const groups of bySize(bench, { smoke: [10], full: [10, 10_000] })) {
    const name = `bench_takeover_${process.pid}`;
    const databaseUrl = await bench.database.create(name);
    await prepare(databaseUrl, groups);
    for (const cause of causes) {
      const rounds = bySize(bench, { smoke: 1, full: 3 });
      const times: number[] = [];
      let peakMib = NaN;
      for (let round = 1; round <= rounds; round++) {
        bench.say(`${ends[cause].word} with ${groups} groups, ${round} of ${rounds}`);
        const once = await takeOver(bench, databaseUrl, cause);
        times.push(once.answeredMs);
        peakMib = once.peakMib;
      }
      const slowestMs = Math.max(...times);
      rows.push([groups, ends[cause].word, rounds, Math.min(...times), slowestMs, peakMib]);
      const what = `takeover, ${ends[cause].word}, ${groups} groups: first heartbeat`;
      bench.report.atMost(what, ends[cause].answeredMsMax, slowestMs, 'ms');
    }
    await bench.database.drop(name);
  }
  bench.report.section(
    `Takeover: from the end of the active broker to the first heartbeat that the standby answers; ${membersPerGroup} members a group`,
    ['groups', 'the active one is', 'times', 'fastest ms', 'slowest ms', 'standby peak MiB'],
    rows,
    [
      'The member asks again every few milliseconds, each time by a new connection. Every group has 10 cursors and 10 assignments.',
      `Old space of the brokers up to ${heapMib} MiB; memory is the peak that was resident.`,
    ],
  );
}

/** Creates the schema and a topic through a broker, and the groups through SQL. */
async function prepare(databaseUrl: string, groups: number): Promise<void> {
  const broker = await startBroker({ databaseUrl });
  const client = connect(broker.grpcAddress);
  await makeTopics(client, 'takeover', 1, partitions);
  client.close();
  await broker.stop();
  await fillGroups(databaseUrl, { groups, membersPerGroup });
}

async function takeOver(
  bench: Bench,
  databaseUrl: string,
  cause: End,
): Promise<{ answeredMs: number; peakMib: number }> {
  const nodeFlags = [`--max-old-space-size=${heapMib}`, ...profileFlags(bench)];
  const active = await startBroker({ databaseUrl, nodeFlags });
  let standby: BrokerProcess | null = null;
  try {
    const next = await startBroker({ databaseUrl, nodeFlags, until: 'alive' });
    standby = next;
    await waitFor('the active broker to answer a heartbeat', 30_000, 5, () => heartbeat(active));
    await delay(watchMs);
    const startMs = performance.now();
    active.kill(cause);
    await waitFor('the standby to answer a heartbeat', 60_000, 2, () => heartbeat(next));
    return { answeredMs: performance.now() - startMs, peakMib: processUsage(next.pid)?.memoryPeakMib ?? NaN };
  } catch (error) {
    bench.say(`the standby's output:\n${standby?.output() ?? 'none'}`);
    throw error;
  } finally {
    active.kill('SIGKILL');
    await active.exited;
    await standby?.stop();
  }
}

/**
 * Uses a new connection each time, because grpc-js waits a second before it retries a refused one.
 */
async function heartbeat({ grpcAddress }: BrokerProcess): Promise<boolean> {
  const client = connect(grpcAddress, { 'grpc.use_local_subchannel_pool': 1 });
  const request = { group: 'group-1', memberId: 'member-1-0', generation: 1n };
  try {
    await call(client, BrokerService.method.heartbeat, request);
    return true;
  } catch (error) {
    if ((error as ServiceError).code !== status.UNAVAILABLE) throw error;
    return false;
  } finally {
    client.close();
  }
}
