import { parseArgs } from 'node:util';
import { startBroker } from '../../bench/support/broker-process.ts';
import { openDatabase } from '../../bench/support/database.ts';
import { describeOpen, leftOpen, noteOpen, openNow } from '../support/left-open/open.ts';
import { allGenerators, Fuzzer, type FuzzOptions, type GeneratorName } from './fuzz/fuzzer.ts';
import { BrokerWatch } from './fuzz/broker-watch.ts';
import { answersText, faultsOf } from './fuzz/report.ts';
import { FuzzSite } from './fuzz/site.ts';
import { Pair } from './pair/pair.ts';

/** The fuzzer by hand; README.md beside this file has its options. */

const help = `node test/hostile/fuzz.ts [options]

  --requests N          ends after so many. Default: 100000
  --seed N              of the cases. Default: a new one
  --from INDEX          begins with this case of the seed. Default: 0
  --replay SEED:INDEX[:INDEX]
                        that case, or those from one to another, with what they send and get
  --at-once N           requests under way. Default: 128
  --only NAME[,NAME]    only the cases of these generators: ${[...new Set(allGenerators)].join(', ')}
  --database-url URL    a PostgreSQL whose user may create databases. Default: an embedded one
`;

const isGenerator = (name: string): boolean => allGenerators.some((generator) => generator === name);

/**
 * @returns null if the command line asks for help.
 * @throws Error that names the fault of the command line
 */
function readOptions() {
  const { values } = parseArgs({
    options: {
      requests: { type: 'string', default: '100000' },
      seed: { type: 'string', default: String(process.pid) },
      from: { type: 'string', default: '0' },
      replay: { type: 'string' },
      'at-once': { type: 'string', default: '128' },
      only: { type: 'string', default: allGenerators.join() },
      'database-url': { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return null;
  for (const flag of ['requests', 'seed', 'from', 'at-once'] as const) {
    if (!/^\d+$/.test(values[flag])) throw new Error(`--${flag}: ${values[flag]} is not a number`);
  }
  if (values.replay !== undefined && !/^\d+(:\d+){1,2}$/.test(values.replay)) {
    throw new Error(`--replay: ${values.replay} is not a seed and a case`);
  }
  const unknown = values.only.split(',').find((name) => !isGenerator(name));
  if (unknown !== undefined) throw new Error(`--only: ${unknown} is no generator`);
  return values;
}

/** Ends the process with its help, or with the fault of its command line. */
function optionsOrEnd(): NonNullable<ReturnType<typeof readOptions>> {
  try {
    const read = readOptions();
    if (read !== null) return read;
    process.stdout.write(help);
    process.exit(0);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exit(1);
  }
}

const values = optionsOrEnd();

const progressMs = 10_000;
/** Longer than the broker drains and PostgreSQL stops. */
const endMsMax = 120_000;
const [seed = '', from = '0', to = from] = values.replay?.split(':') ?? [values.seed, values.from];
const replayed = values.replay === undefined ? null : Number(to) - Number(from) + 1;

noteOpen();
const beforeRun = new Set<object>([process.stdout, process.stderr, ...openNow()]);
const database = await openDatabase({ databaseUrl: values['database-url'] ?? null, directory: null, size: 'smoke' });
const name = `fuzz_${process.pid}`;
const databaseUrl = await database.create(name);
const broker = await startBroker({ databaseUrl });
const watch = new BrokerWatch(broker);
const pair = await Pair.start(broker.grpcAddress, { brokerPid: broker.pid, databaseUrl });
const site = await FuzzSite.open(broker);
await pair.mark();
console.log(`seed ${seed}; repeat a case with: node test/hostile/fuzz.ts --replay ${seed}:INDEX`);

const startedMs = performance.now();
let shownMs = startedMs;
const perSecond = (requests: number): number => (requests / (performance.now() - startedMs)) * 1_000;
const onProgress = (requests: number): void => {
  if (performance.now() - shownMs < progressMs) return;
  shownMs = performance.now();
  console.log(`${requests} requests, ${perSecond(requests) | 0} a second, peak ${watch.peakMib | 0} MiB`);
};
let begun = 0;
const onComplaint = (text: string): void => console.log(`COMPLAINT: ${text}`);
const generators = values.only.split(',') as GeneratorName[];
const common = { seed: Number(seed), first: Number(from), generators, onProgress, onComplaint };
const options: FuzzOptions =
  replayed === null
    ? {
        ...common,
        atOnce: Number(values['at-once']),
        goesOn: (requests) => watch.isAlive && requests < Number(values.requests),
        show: null,
      }
    : { ...common, atOnce: 1, goesOn: () => watch.isAlive && begun++ < replayed, show: (text) => console.log(text) };

/** A process that goes on names what keeps it. This timer does not. */
function endSoon(step: () => string): void {
  setTimeout(() => {
    const left = leftOpen(beforeRun).map(describeOpen);
    console.log(`FAULT: after ${step()} the process does not end:\n${left.join('\n')}`);
    process.exit(1);
  }, endMsMax).unref();
}

const result = await new Fuzzer(site, options).run();
const seconds = Math.round((performance.now() - startedMs) / 1_000);
console.log(`${result.requests} requests in ${result.cases} cases in ${seconds} s, peak ${watch.peakMib | 0} MiB`);
console.log(answersText(result));
const faults = await faultsOf(result, site, watch, pair);
for (const fault of faults) console.log(`FAULT: ${fault}`);
process.exitCode = faults.length === 0 ? 0 : 1;

let ended = 'the last answer';
endSoon(() => ended);
site.close();
await pair.stop();
ended = 'the end of the pair';
await broker.stop();
ended = 'the end of the broker';
await database.drop(name);
ended = 'the end of its database';
await database.close();
ended = 'the end of PostgreSQL';
