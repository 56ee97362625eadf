import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { runAppend } from './programs/append.ts';
import { runCoordinator } from './programs/coordinator.ts';
import { runFanout } from './programs/fanout.ts';
import { runHeld } from './programs/held.ts';
import { runLatency } from './programs/latency.ts';
import { runPeer } from './programs/peer.ts';
import { runRestart } from './programs/restart.ts';
import { runRetention } from './programs/retention.ts';
import { runTurns } from './programs/turns.ts';
import { killBrokers } from './support/broker-process.ts';
import { openDatabase, type Database } from './support/database.ts';
import { describeMachine } from './support/measure/machine.ts';
import { Report } from './support/report.ts';
import { machineUsage } from './support/measure/usage.ts';
import type { Bench } from './support/site.ts';
import { formatNumber } from './support/table.ts';

const programs: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  append: runAppend,
  fanout: runFanout,
  latency: runLatency,
  held: runHeld,
  peer: runPeer,
  restart: runRestart,
  retention: runRetention,
  coordinator: runCoordinator,
  turns: runTurns,
};

const help = `npm run bench -- NAME [options]

  append    the raw storage layer against publish through gRPC; single records
  fanout    one topic to 1 ... 128 groups, everything acked: rate, CPU, WAL, latency
  latency   publish to handler at 100, 2,000 and 20,000 records a second
  held      publish and ack while another session holds a transaction open
  peer      the same work on a table with FOR UPDATE SKIP LOCKED, as a ratio
  restart   how long a broker takes to serve again
  retention publish while segments are dropped
  coordinator
            groups: joins, heartbeats, rebalances, offset commits, their cost by size, takeover
  turns     the broker of this tree against that of another commit, by turns: CPU, WAL and rate of each message
  all       all of them

  --size smoke|full     smoke: seconds, to see that it runs; full: minutes, for figures. Default: full
  --only REGEX          only scenarios whose name matches (append: batches, singles; fanout: groups, paced, wal,
                        curve; latency: 100, 2000, 20000; peer: queue, fan-out to 4, fan-out to 16;
                        restart: work, dead; retention: nothing, snapshot, reader;
                        coordinator: machine, curve, steps, shell, scrape, heartbeats, members, large, pauses,
                        offsets, takeover; turns: append, singles, fanout, latency, joins, heartbeats)
  --json FILE           where the results go as JSON. Default: bench/results/NAME-SIZE.json
  --database-url URL    a PostgreSQL to measure on; its user must be allowed to create databases.
                        Default: an embedded one, in a temporary directory, removed afterwards
  --directory DIR       where that temporary directory is made. Default: the system's
  --seed N              of payloads. Default: 1
  --profile DIR         writes a CPU profile of the broker
  --against REF|DIR     turns: the commit (of this repository) or directory to compare with. Default: this tree
                        itself, which shows the noise
  --pairs N             turns: how often both brokers start and take their turns. Default: 12 (smoke: 1)
  --floor RATIO         turns: what the lower end of the 90 % interval of before / now must reach. Default: 0.97
  --messages N          retention: how many are dropped in each round. Default: 2000000 (smoke: 40000)
  --strict              ends with 1 if a target is missed
`;

interface Options {
  readonly names: readonly string[];
  readonly size: 'smoke' | 'full';
  readonly only: RegExp | null;
  readonly json: string;
  readonly databaseUrl: string | null;
  readonly directory: string | null;
  readonly seed: number;
  readonly profileDir: string | null;
  readonly against: string | null;
  readonly pairs: number;
  readonly floor: number;
  readonly messages: number | null;
  readonly strict: boolean;
}

/**
 * @returns null if the command line asks for help.
 * @throws Error that names the fault of the command line
 */
function readOptions(args: readonly string[]): Options | null {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      size: { type: 'string', default: 'full' },
      only: { type: 'string' },
      json: { type: 'string' },
      'database-url': { type: 'string' },
      directory: { type: 'string' },
      seed: { type: 'string', default: '1' },
      profile: { type: 'string' },
      against: { type: 'string' },
      pairs: { type: 'string' },
      floor: { type: 'string', default: '0.97' },
      messages: { type: 'string' },
      strict: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const name = positionals[0];
  if (values.help || name === undefined) return null;
  if (name !== 'all' && programs[name] === undefined) throw new Error(`no benchmark is called ${name}`);
  if (values.size !== 'smoke' && values.size !== 'full') throw new Error('--size is smoke or full');
  return {
    names: name === 'all' ? Object.keys(programs) : [name],
    size: values.size,
    only: values.only === undefined ? null : new RegExp(values.only),
    json: values.json ?? `bench/results/${name}-${values.size}.json`,
    databaseUrl: values['database-url'] ?? null,
    directory: values.directory ?? null,
    seed: Number(values.seed),
    profileDir: values.profile ?? null,
    against: values.against ?? null,
    pairs: Number(values.pairs ?? (values.size === 'smoke' ? 1 : 12)),
    floor: Number(values.floor),
    messages: values.messages === undefined ? null : Number(values.messages),
    strict: values.strict,
  };
}

type MachineUsage = ReturnType<typeof machineUsage>;

/**
 * Reports stolen time, because figures are worthless if the host gives the cores to other machines.
 */
function reportMachine(report: Report, name: string, before: MachineUsage, after: MachineUsage): void {
  if (before === null || after === null) return;
  const allMs = after.allMs - before.allMs;
  const percent = (ms: number): string => ((ms / allMs) * 100).toFixed(1);
  const row = [percent(after.busyMs - before.busyMs), percent(after.stolenMs - before.stolenMs)];
  report.section(`The machine during ${name}, % of all cores`, ['busy', 'stolen by its host'], [row]);
}

/**
 * Ends brokers, loads and database with this process, even if only this process gets the signal.
 */
function endOnSignals(database: Database): void {
  let ending = false;
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const) {
    process.on(signal, () => {
      if (ending) return;
      ending = true;
      process.stderr.write(`${signal}: ends, without results\n`);
      killBrokers();
      void database.close().finally(() => process.exit(128 + number));
    });
  }
}

async function main(options: Options): Promise<number> {
  const startedAt = performance.now();
  const say = (text: string): void => {
    process.stderr.write(`${formatNumber(Math.round((performance.now() - startedAt) / 1000))} s  ${text}\n`);
  };
  const report = new Report((text) => process.stdout.write(`${text}\n`));
  const database = await openDatabase(options);
  endOnSignals(database);
  const machine = describeMachine();
  process.stdout.write(`${JSON.stringify({ machine, postgres: database.settings, seed: options.seed }, null, 2)}\n`);
  try {
    for (const name of options.names) {
      say(name);
      const before = machineUsage();
      await programs[name]!({ ...options, database, report, say });
      reportMachine(report, name, before, machineUsage());
      await database.checkpoint();
    }
  } finally {
    await database.close();
  }
  report.printChecks();
  await mkdir(dirname(options.json), { recursive: true });
  const { size, seed } = options;
  await writeFile(options.json, report.toJson({ machine, settings: database.settings, size, seed }));
  say(`written to ${options.json}`);
  return options.strict && report.checks.some((check) => !check.pass) ? 1 : 0;
}

/** A fault of the command line is one line. A fault of a benchmark has its stack. */
async function exitCode(): Promise<number> {
  let options: Options | null;
  try {
    options = readOptions(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
  if (options !== null) return main(options);
  process.stdout.write(help);
  return 0;
}

try {
  process.exitCode = await exitCode();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
}
