import { status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { call, connect } from '../../client/service-client.ts';
import { startBroker } from '../../support/broker-process.ts';
import type { BrokerProcess } from '../../support/broker-process.ts';
import { fillGroups } from '../../support/bare/fill-groups.ts';
import { otherTree } from '../../support/other-tree.ts';
import { median } from '../../support/measure/paired.ts';
import { bySize, profileFlags } from '../../support/site.ts';
import type { Bench } from '../../support/site.ts';
import type { Cell } from '../../support/table.ts';
import { delay, waitFor } from '../../support/timing.ts';
import { processUsage } from '../../support/measure/usage.ts';
import { makeTopics } from './streams.ts';

const membersPerGroup = 10;
const partitions = 10;
/**
 * Larger than the heap of `npm start`, which does not hold the ten thousand groups measured here.
 */
const heapMib = 2_048;
/** Time for a standby to see that the active broker is alive. */
const watchMs = 1_000;
/** Heartbeats under way at once, of those that ask for every group. */
const askedAtOnce = 100;

/** The ways to end the active broker, and the limit until the next one answers a member. */
const ends = {
  SIGKILL: { word: 'kill -9', answeredMsMax: 2_000 },
  SIGSTOP: { word: 'frozen', answeredMsMax: 10_000 },
} as const;
type End = keyof typeof ends;

/** The broker that dies and the one that takes over are of one tree. */
interface Tree {
  readonly name: string;
  /** Default: this tree. */
  readonly root?: URL;
}

/** Milliseconds from the end of the active broker. */
interface Taken {
  readonly firstMs: number;
  /** Until a heartbeat of every group was answered. */
  readonly allMs: number;
  readonly peakMib: number;
}

/**
 * How long members are without a broker when the active one dies, with few groups to load and with
 * many. With `--against` it measures the same of another tree, by turns.
 */
export async function runTakeover(bench: Bench): Promise<void> {
  const other = bench.against === null ? null : await otherTree(bench.against);
  const trees: Tree[] = [{ name: 'this' }];
  if (other !== null) trees.unshift({ name: 'before', root: other.root });
  const rows: Cell[][] = [];
  try {
    for (const groups of bySize(bench, { smoke: [10], full: [10, 10_000] })) {
      rows.push(...(await takeOvers(bench, trees, groups)));
    }
  } finally {
    await other?.remove();
  }
  bench.report.section(
    `Takeover: from the end of the active broker to the first heartbeat that the standby answers, and until every group is answered; ${membersPerGroup} members a group`,
    ['groups', 'the active one is', 'tree', 'times', 'fastest ms', 'slowest ms', 'every group ms', 'standby peak MiB'],
    rows,
    [
      'The member asks again every few milliseconds, each time by a new connection. Every group has 10 cursors and 10 assignments.',
      `Then one heartbeat of every group, ${askedAtOnce} at a time, over one connection: the median of the times until the last answer.`,
      `Old space of the brokers up to ${heapMib} MiB; memory is the peak that was resident.`,
    ],
  );
}

async function takeOvers(bench: Bench, trees: readonly Tree[], groups: number): Promise<Cell[][]> {
  const causes: readonly End[] = bySize(bench, { smoke: ['SIGKILL'], full: ['SIGKILL', 'SIGSTOP'] });
  const rounds = bySize(bench, { smoke: 1, full: 3 });
  const name = `bench_takeover_${process.pid}`;
  const databaseUrl = await bench.database.create(name);
  await prepare(databaseUrl, groups);
  const rows: Cell[][] = [];
  for (const cause of causes) {
    const taken = trees.map((): Taken[] => []);
    for (let round = 1; round <= rounds; round++) {
      for (const [at, tree] of trees.entries()) {
        bench.say(`${ends[cause].word} with ${groups} groups, ${tree.name}, ${round} of ${rounds}`);
        taken[at]!.push(await takeOver(bench, databaseUrl, { cause, groups, tree }));
      }
    }
    for (const [at, tree] of trees.entries()) rows.push(rowOf(groups, ends[cause].word, tree, taken[at]!));
    const slowestMs = Math.max(...taken.at(-1)!.map(({ firstMs }) => firstMs));
    const what = `takeover, ${ends[cause].word}, ${groups} groups: first heartbeat`;
    bench.report.atMost(what, ends[cause].answeredMsMax, slowestMs, 'ms');
  }
  await bench.database.drop(name);
  return rows;
}

function rowOf(groups: number, word: string, { name }: Tree, taken: readonly Taken[]): Cell[] {
  const firstMs = taken.map((one) => one.firstMs);
  const allMs = median(taken.map((one) => one.allMs));
  const peakMib = Math.max(...taken.map((one) => one.peakMib));
  return [groups, word, name, taken.length, Math.min(...firstMs), Math.max(...firstMs), allMs, peakMib];
}

/** A schema and a topic by the broker itself, the groups by SQL. */
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
  { cause, groups, tree }: { readonly cause: End; readonly groups: number; readonly tree: Tree },
): Promise<Taken> {
  const { root } = tree;
  const options = { databaseUrl, heapMib, nodeFlags: profileFlags(bench), ...(root !== undefined && { root }) };
  const active = await startBroker(options);
  let standby: BrokerProcess | null = null;
  try {
    const next = await startBroker({ ...options, until: 'alive' });
    standby = next;
    await waitFor('the active broker to answer a heartbeat', 30_000, 5, () => heartbeat(active));
    await delay(watchMs);
    const startMs = performance.now();
    active.kill(cause);
    await waitFor('the standby to answer a heartbeat', 60_000, 2, () => heartbeat(next));
    const firstMs = performance.now() - startMs;
    await askAll(next, groups);
    const allMs = performance.now() - startMs;
    return { firstMs, allMs, peakMib: processUsage(next.pid)?.memoryPeakMib ?? NaN };
  } catch (error) {
    bench.say(`the standby's output:\n${standby?.output() ?? 'none'}`);
    throw error;
  } finally {
    active.kill('SIGKILL');
    await active.exited;
    await standby?.stop();
  }
}

/** A heartbeat of one member of every group. */
async function askAll({ grpcAddress }: BrokerProcess, groups: number): Promise<void> {
  const client = connect(grpcAddress);
  let asked = 0;
  const askNext = async (): Promise<void> => {
    while (asked < groups) {
      const group = ++asked;
      const request = { group: `group-${group}`, memberId: `member-${group}-0`, generation: 1n };
      await call(client, BrokerService.method.heartbeat, request);
    }
  };
  await Promise.all(Array.from({ length: askedAtOnce }, askNext));
  client.close();
}

/** By a connection of its own: one that was refused waits for a second before it tries again. */
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
