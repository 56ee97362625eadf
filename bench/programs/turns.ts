import { otherTree } from '../support/other-tree.ts';
import { mean, median, medianInterval } from '../support/measure/paired.ts';
import { bySize, selected, withBroker } from '../support/site.ts';
import type { Bench, Site } from '../support/site.ts';
import type { Cell } from '../support/table.ts';
import { turnLoads } from './turns/loads.ts';
import type { Turn } from './turns/loads.ts';

/** A figure of a turn. Less is better. `judged`: the floor applies to it. */
interface Figure {
  readonly name: string;
  readonly judged: boolean;
  readonly of: (turn: Turn) => number;
}

const figures: readonly Figure[] = [
  { name: 'broker CPU µs/msg', judged: true, of: ({ cost, messages }) => (cost.brokerCpuMs * 1000) / messages },
  { name: 'database CPU µs/msg', judged: false, of: ({ cost, messages }) => (cost.databaseCpuMs * 1000) / messages },
  { name: 'WAL B/msg', judged: true, of: ({ cost, messages }) => cost.walBytes / messages },
  { name: 'µs/msg', judged: false, of: ({ perSecond }) => 1_000_000 / perSecond },
];
const latencyFigures: readonly Figure[] = [
  { name: 'p50 ms', judged: false, of: ({ latency }) => latency!.percentileUs(0.5) / 1000 },
  { name: 'p99 ms', judged: false, of: ({ latency }) => latency!.percentileUs(0.99) / 1000 },
];
/** Heartbeats write nothing. Their WAL comes from the lease and does not depend on their number. */
const withoutWal = new Set(['heartbeats']);

/**
 * Gives the broker of this tree and that of another the same load in turn, each on its own
 * database, so that the machine affects both alike. Each pair has brokers of its own, because what
 * V8 optimizes differs from process to process by more than most changes do.
 */
export async function runTurns(bench: Bench): Promise<void> {
  const compared = bench.against === null ? null : await otherTree(bench.against);
  const options = compared === null ? {} : { root: compared.root };
  const loads = Object.keys(turnLoads).filter((load) => selected(bench, load));
  const pairs = new Map(loads.map((load): [string, Pair[]] => [load, []]));
  try {
    for (let start = 0; start < bench.pairs; start++) {
      await withBroker(bench, 'turns_other', (before) => withThisTree(bench, before, start, pairs), options);
    }
  } finally {
    await compared?.remove();
  }
  for (const [load, taken] of pairs) report(bench, load, taken);
}

async function withThisTree(bench: Bench, before: Site, start: number, pairs: Map<string, Pair[]>): Promise<void> {
  await withBroker(bench, 'turns_this', async (now) => {
    for (const [load, taken] of pairs) {
      bench.say(`${load}: pair ${start + 1} of ${bench.pairs}`);
      taken.push(await takeTurns(bench, load, { before, now }, start % 2 === 0));
    }
  });
}

/** The measured turns of two brokers. */
interface Pair {
  readonly before: readonly Turn[];
  readonly now: readonly Turn[];
}

async function takeTurns(
  bench: Bench,
  load: string,
  sites: Record<keyof Pair, Site>,
  isBeforeFirst: boolean,
): Promise<Pair> {
  const interval = bySize(bench, {
    smoke: { warmUpMs: 200, measureMs: 500 },
    // The broker folds its ack log every 5 s: each turn has one fold.
    full: { warmUpMs: 1_500, measureMs: 5_000 },
  });
  const turn = (which: keyof Pair): Promise<Turn> => turnLoads[load]!(bench, sites[which], interval);
  // The first turns are not measured, because they compile code and create files.
  await turn('before');
  await turn('now');
  const taken = { before: [] as Turn[], now: [] as Turn[] };
  for (const which of isBeforeFirst ? beforeFirst : beforeFirst.map(other)) {
    // A page that is written for the first time since a checkpoint is logged as a whole.
    await bench.database.checkpoint();
    taken[which].push(await turn(which));
  }
  return taken;
}

/** What grows or fades over the turns of a pair affects both sides alike in this order. */
const beforeFirst: readonly (keyof Pair)[] = ['before', 'now', 'now', 'before'];
const other = (which: keyof Pair): keyof Pair => (which === 'before' ? 'now' : 'before');

function report(bench: Bench, name: string, pairs: readonly Pair[]): void {
  const rows: Cell[][] = [];
  for (const figure of shown(name, pairs)) {
    const valueOf = (turns: readonly Turn[]): number => mean(turns.map((turn) => figure.of(turn)));
    const ratios = pairs.map(({ before, now }) => valueOf(before) / valueOf(now));
    bench.say(`${name}: ${figure.name}, before / now by pair: ${ratios.map((ratio) => ratio.toFixed(3)).join(' ')}`);
    const { median: middle, low, high } = medianInterval(ratios, bench.seed);
    const value = (which: keyof Pair): number => median(pairs.map((pair) => valueOf(pair[which])));
    rows.push([figure.name, value('before'), value('now'), middle, low, high]);
    if (figure.judged) {
      bench.report.atLeast(`${name}: ${figure.name}, before / now, lower end`, bench.floor, low, 'times');
    }
  }
  bench.report.section(
    `${name}: this tree against ${bench.against ?? 'itself'}, ${pairs.length} pairs by turns`,
    ['figure', 'before', 'now', 'before / now', 'low', 'high'],
    rows,
    ['Medians; above 1 this tree is cheaper. Low and high: the 90 % interval of the median ratio, by bootstrap.'],
  );
}

function shown(name: string, pairs: readonly Pair[]): readonly Figure[] {
  const costs = withoutWal.has(name) ? figures.filter((figure) => figure.name !== 'WAL B/msg') : figures;
  return pairs.some(({ now }) => now.some(({ latency }) => latency !== null)) ? [...costs, ...latencyFigures] : costs;
}
