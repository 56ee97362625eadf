import type { Pair } from '../pair/pair.ts';
import type { BrokerWatch } from './broker-watch.ts';
import type { FuzzResult } from './fuzzer.ts';
import type { FuzzSite } from './site.ts';

/** Longer than a small call waits behind the other requests: the broker stands still. */
const slowMsMax = 2_000;
/** A broker whose lease the database does not renew stands longer. */
const standsMsMax = 4_000;

/** What is wrong after a run: answers, the process, the pair, and what is left of all of it. */
export async function faultsOf(result: FuzzResult, site: FuzzSite, watch: BrokerWatch, pair: Pair): Promise<string[]> {
  if (!watch.isAlive) return [...result.complaints, ...watch.faults()];
  const { faults, p99Ms, slowestOwnMs } = await pair.collect();
  await pair.stop();
  await site.removeAll();
  site.close();
  const counted = await watch.stillCounted();
  return [
    ...result.complaints,
    ...faults.map((fault) => `the pair: ${fault}`),
    ...(p99Ms > slowMsMax ? [`1 % of the small calls took ${p99Ms | 0} ms or longer`] : []),
    ...(lostLease(result) && slowestOwnMs > standsMsMax
      ? [`the broker lost its lease, and a small call took ${slowestOwnMs | 0} ms without the machine`]
      : []),
    ...counted,
    ...watch.faults(),
  ];
}

function lostLease({ answers }: FuzzResult): boolean {
  return [...answers.keys()].some((name) => name.endsWith(': NOT_OWNER'));
}

/** The answers by their number, for a reader. */
export function answersText({ answers }: FuzzResult): string {
  const sorted = [...answers].sort(([a], [b]) => a.localeCompare(b));
  return sorted.map(([name, count]) => `  ${name.padEnd(44)} ${count}`).join('\n');
}
