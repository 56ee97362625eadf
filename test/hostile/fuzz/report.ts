import type { BrokerProcess } from '../../../bench/support/broker-process.ts';
import type { Pair } from '../pair/pair.ts';
import type { FuzzResult } from './fuzzer.ts';

/** What a bug looks like in the log of a broker, and an answer that hides one. */
const bugInLog = /a bug:|bugId|INTERNAL/;
const bugsShown = 3;
/** Longer than a small call waits behind the other requests: the broker stands still. */
const slowMsMax = 2_000;

/** What is wrong after a run: answers, the process, its log, and the pair. */
export async function faultsOf(result: FuzzResult, broker: BrokerProcess, pair: Pair): Promise<string[]> {
  const { exitCode, signalCode } = broker.process;
  const log = broker.output();
  if (exitCode !== null || signalCode !== null) {
    return [`the broker has ended: ${exitCode ?? signalCode}; its log:\n${log.slice(-4_000)}`];
  }
  const { faults, p99Ms } = await pair.collect();
  const bugs = log.split('\n').filter((line) => bugInLog.test(line));
  return [
    ...result.complaints,
    ...faults.map((fault) => `the pair: ${fault}`),
    ...(p99Ms > slowMsMax ? [`1 % of the small calls took ${p99Ms | 0} ms or longer`] : []),
    ...bugs.slice(0, bugsShown).map((line) => `a bug in the log: ${line}`),
  ];
}

/** The answers by their number, for a reader. */
export function answersText({ answers }: FuzzResult): string {
  const sorted = [...answers].sort(([a], [b]) => a.localeCompare(b));
  return sorted.map(([name, count]) => `  ${name.padEnd(44)} ${count}`).join('\n');
}
