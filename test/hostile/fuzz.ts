import { parseArgs } from 'node:util';
import { startBroker } from '../../bench/support/broker-process.ts';
import { openDatabase } from '../../bench/support/database.ts';
import { Fuzzer, type FuzzOptions } from './fuzz/fuzzer.ts';
import { answersText, faultsOf } from './fuzz/report.ts';
import { FuzzSite } from './fuzz/site.ts';
import { Pair } from './pair/pair.ts';

/** The fuzzer by hand; README.md beside this file has its options. */

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(process.pid) },
    replay: { type: 'string' },
    'at-once': { type: 'string', default: '128' },
    'database-url': { type: 'string' },
  },
});

const progressMs = 10_000;
const [seed = '', from = '0', to = from] = values.replay?.split(':') ?? [values.seed];
const replayed = values.replay === undefined ? null : Number(to) - Number(from) + 1;

const database = await openDatabase({ databaseUrl: values['database-url'] ?? null, directory: null, size: 'smoke' });
const name = `fuzz_${process.pid}`;
const broker = await startBroker({ databaseUrl: await database.create(name) });
const pair = await Pair.start(broker.grpcAddress);
const site = await FuzzSite.open(broker);
await pair.mark();
console.log(`seed ${seed}; repeat a case with: node test/hostile/fuzz.ts --replay ${seed}:INDEX`);

const startedMs = performance.now();
let shownMs = startedMs;
const isAlive = (): boolean => broker.process.exitCode === null && broker.process.signalCode === null;
const perSecond = (requests: number): number => (requests / (performance.now() - startedMs)) * 1_000;
const onProgress = (requests: number): void => {
  if (performance.now() - shownMs < progressMs) return;
  shownMs = performance.now();
  console.log(`${requests} requests, ${perSecond(requests) | 0} a second`);
};
let begun = 0;
const common = { seed: Number(seed), first: Number(from), onProgress };
const options: FuzzOptions =
  replayed === null
    ? {
        ...common,
        atOnce: Number(values['at-once']),
        goesOn: (requests) => isAlive() && requests < Number(values.requests),
        show: null,
      }
    : { ...common, atOnce: 1, goesOn: () => isAlive() && begun++ < replayed, show: (text) => console.log(text) };
const result = await new Fuzzer(site, options).run();

console.log(`${result.requests} requests in ${result.cases} cases, ${perSecond(result.requests) | 0} a second`);
console.log(answersText(result));
const faults = await faultsOf(result, broker, pair);
for (const fault of faults) console.log(`FAULT: ${fault}`);
site.close();
await pair.stop();
await broker.stop();
await database.drop(name);
await database.close();
process.exitCode = faults.length === 0 ? 0 : 1;
