import type { Pair } from '../pair/pair.ts';
import type { BrokerWatch } from './broker-watch.ts';
import type { FuzzResult } from './fuzzer.ts';
import type { FuzzSite } from './site.ts';

/** Longer than a small call waits behind the other requests: the broker stands still. */
const slowMsMax = 2_000;

/** What is wrong after a run: answers, the process, the pair, and what is left of all of it. */
export async function faultsOf(result: FuzzResult, site: FuzzSite, watch: BrokerWatch, pair: Pair): Promise<string[]> {
  if (!watch.isAlive) return [...result.complaints, ...watch.faults()];
  const { faults, p99Ms } = await pair.collect();
  await pair.stop();
  await site.removeAll();
  site.close();
  const counted = await watch.stillCounted();
  return [
    ...result.complaints,
    ...faults.map((fault) => `the pair: ${fault}`),
    ...(p99Ms > slowMsMax ? [`1 % of the small calls took ${p99Ms | 0} ms or longer`] : []),
    ...counted,
    ...watch.faults(),
  ];
}

/** The answers by their number, for a reader. */
export function answersText({ answers }: FuzzResult): string {
  const sorted = [...answers].sort(([a], [b]) => a.localeCompare(b));
  return sorted.map(([name, count]) => `  ${name.padEnd(44)} ${count}`).join('\n');
}
