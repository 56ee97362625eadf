import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServiceError } from '@grpc/grpc-js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { call, connect } from '../client/service-client.ts';
import { startBroker } from '../support/broker-process.ts';
import { formatNumber, renderTable } from '../support/table.ts';
import { delay } from '../support/timing.ts';
import { Ledger } from './ledger.ts';
import type { Handled, Verdict } from './ledger.ts';
import { help, readOptions } from './options.ts';
import type { Options } from './options.ts';
import { Progress } from './progress.ts';
import { publishAll } from './publisher.ts';
import { begun, findSource } from './source.ts';
import type { Source } from './source.ts';
import { Team } from './team.ts';
import { Trouble } from './trouble.ts';

const partitions = 6;
const groupSizes = { audit: 1, search: 3, mirror: 5 } as const;
/** Without progress for this time, the records that a group does not have count as missing. */
const patienceMs = 30_000;

interface Broker {
  readonly address: string;
  /** Rejects if the broker ends before `release`. */
  readonly ended: Promise<never>;
  readonly release: () => Promise<void>;
}

const never = new Promise<never>(() => undefined);

/** Finds the given broker, or starts one of its own, which `release` stops. */
async function findBroker(options: Options): Promise<Broker> {
  if (options.address !== null) return { address: options.address, ended: never, release: () => Promise.resolve() };
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'millrace-demo-')));
  const removeData = async (): Promise<void> => {
    if (options.dataDir === null) await rm(dataDir, { recursive: true, force: true });
  };
  process.stdout.write('starting a broker on a PostgreSQL of its own\n');
  try {
    // Detached, because Ctrl-C would reach the broker and `release` would stop it a second time.
    // After
    // a second signal a broker does not wait for its database, whose data could then not be
    // removed.
    const broker = await startBroker({ dataDir, detached: true });
    const ended = broker.exited.then(({ code, signal }) => {
      throw new Error(`the broker ended with ${signal ?? code}; its output:\n${broker.output()}`);
    });
    ended.catch(() => undefined);
    return {
      address: broker.grpcAddress,
      ended,
      release: async () => {
        await broker.stop();
        await removeData();
      },
    };
  } catch (error) {
    await removeData();
    throw error;
  }
}

/**
 * Publishes the source and waits until all groups have received it.
 * @returns a verdict for each group.
 */
async function stream(options: Options, source: Source, broker: Broker, signal: AbortSignal): Promise<Verdict[]> {
  const { address, ended } = broker;
  const client = connect(address);
  const topic = `demo-${process.pid}-${Date.now()}`;
  await call(client, TopicService.method.createTopic, { topic: { name: topic, partitions } }).catch(
    (error: ServiceError) => {
      throw new Error(`${address}: ${error.details.replace(/ Resolution note: $/, '')}`, { cause: error });
    },
  );
  const ledger = new Ledger(Object.keys(groupSizes).map((name) => `${topic}-${name}`));
  const failed = Promise.withResolvers<never>();
  const teams = makeTeams(topic, address, ledger, failed.reject);
  const progress = new Progress(process.stdout, () => lines(ledger, teams));
  const trouble = new Trouble(teams, options);
  const onBatch = (): void => {
    trouble.after(ledger.published);
  };
  const work = async (): Promise<void> => {
    await Promise.all(teams.map((team) => team.start()));
    progress.start();
    await publishAll(source.records, { ...options, client, topic, ledger, signal, onBatch });
    await completed(ledger, signal);
  };
  try {
    await Promise.race([work(), failed.promise, ended, aborted(signal)]);
  } finally {
    progress.stop();
    await Promise.all(teams.map((team) => team.stop()));
  }
  // After an interruption the data of the demo's own broker is removed as a whole.
  if (!signal.aborted || options.address !== null) {
    await call(client, TopicService.method.deleteTopic, { name: topic });
  }
  client.close();
  return ledger.judge();
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => {
      resolve();
    });
  });
}

function makeTeams(topic: string, address: string, ledger: Ledger, onFailed: (error: Error) => void): Team[] {
  return Object.entries(groupSizes).map(([name, size]) => {
    const group = `${topic}-${name}`;
    const onHandled = (handled: Handled): void => {
      ledger.receive(group, handled);
    };
    return new Team({ address, topic, group, size, onHandled, onFailed });
  });
}

function lines(ledger: Ledger, teams: readonly Team[]): { name: string; count: number; note: string }[] {
  return [
    { name: 'published', count: ledger.published, note: '' },
    ...teams.map((team) => ({
      name: shortName(team.group),
      count: ledger.received(team.group),
      note: `${team.alive}/${team.size} members, ${team.killed} killed, ${team.broken} streams broken, ${ledger.duplicates(team.group)} again`,
    })),
  ];
}

function shortName(group: string): string {
  return group.slice(group.lastIndexOf('-') + 1);
}

/**
 * Waits until all groups have received everything, or no group has received anything for too long.
 */
async function completed(ledger: Ledger, signal: AbortSignal): Promise<void> {
  let lastMs = performance.now();
  let last = -1;
  while (!ledger.complete && !signal.aborted) {
    const received = ledger.receivedInAll;
    if (received !== last) {
      last = received;
      lastMs = performance.now();
    }
    if (performance.now() - lastMs > patienceMs) return;
    await delay(20);
  }
}

function printVerdicts(verdicts: readonly Verdict[]): void {
  const header = [
    'group',
    'members',
    'received',
    'missing',
    'duplicates',
    'order violations',
    'records/s',
    'p50 ms',
    'p95 ms',
    'p99 ms',
  ];
  const rows = verdicts.map((verdict) => {
    const name = shortName(verdict.group);
    const { p50Ms, p95Ms, p99Ms } = verdict.latency;
    return [
      name,
      groupSizes[name as keyof typeof groupSizes],
      verdict.received,
      verdict.missing,
      verdict.duplicates,
      verdict.orderViolations,
      Math.round(verdict.perSecond),
      p50Ms,
      p95Ms,
      p99Ms,
    ];
  });
  process.stdout.write(`\n${renderTable(header, rows)}\n\n`);
  process.stdout.write(
    'Latency: from sent to handled, first deliveries. Duplicates: what a killed member had not acked.\n',
  );
}

/** @returns the verdicts; null if the demo was interrupted before it began. */
async function runWithBroker(options: Options, signal: AbortSignal): Promise<Verdict[] | null> {
  const source = await begun(await findSource(options.file, options.keyField));
  process.stdout.write(`source: ${source.name}\n`);
  const broker = await findBroker(options);
  try {
    return signal.aborted ? null : await stream(options, source, broker, signal);
  } finally {
    await broker.release();
  }
}

async function main(options: Options): Promise<number> {
  const interrupted = new AbortController();
  const { signal } = interrupted;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      interrupted.abort();
    });
  }
  const verdicts = await runWithBroker(options, signal).catch((error: unknown) => {
    // Ctrl-C also ends members that are just starting, which is then no failure.
    if (signal.aborted) return null;
    throw error;
  });
  if (verdicts !== null) {
    printVerdicts(verdicts);
    const published = verdicts[0]!.received + verdicts[0]!.missing;
    process.stdout.write(`${formatNumber(published)} records published to ${verdicts.length} groups\n`);
  }
  if (signal.aborted) {
    process.stdout.write('interrupted\n');
    return 130;
  }
  return verdicts!.some((verdict) => verdict.missing > 0 || verdict.orderViolations > 0) ? 1 : 0;
}

async function exitCode(): Promise<number> {
  try {
    const options = readOptions(process.argv.slice(2));
    if (options !== null) return await main(options);
    process.stdout.write(help);
    return 0;
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

// Handles may be open after an interruption, for example a list that is being decompressed.
process.exit(await exitCode());
