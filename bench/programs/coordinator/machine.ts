import type { GroupMachineResult, GroupMachineSpec } from '../../load/group-machine.ts';
import type { GroupStepsResult, GroupStepsSpec } from '../../support/bare/group-steps.ts';
import { againstNLogN, exponentOfNLogN, fittedExponent } from '../../support/measure/curve.ts';
import type { Point } from '../../support/measure/curve.ts';
import { Histogram } from '../../support/histogram.ts';
import { measureApart } from '../../support/load-process.ts';
import { bySize, profileFlags } from '../../support/site.ts';
import type { Bench } from '../../support/site.ts';
import type { Cell } from '../../support/table.ts';

type Rejoins = Extract<GroupMachineSpec, { work: 'rejoins' }>;

function measure(bench: Bench, spec: GroupMachineSpec): Promise<GroupMachineResult> {
  return measureApart<GroupMachineSpec, GroupMachineResult>('group-machine', spec, profileFlags(bench));
}

const perSecond = ({ count, elapsedMs }: GroupMachineResult): number => (count / elapsedMs) * 1000;

/** Measures the decisions of the coordinator alone, without a shell, a database and a network. */
export async function runMachine(bench: Bench): Promise<void> {
  bench.say('the machine alone');
  const groups = bySize(bench, { smoke: 200, full: 10_000 });
  const members = bySize(bench, { smoke: 100, full: 1_000 });
  const ms = bySize(bench, { smoke: 200, full: 3_000 });
  const joins = await measure(bench, { work: 'joins', groups, membersPerGroup: 10, partitions: 30 });
  const intoOne = await measure(bench, {
    work: 'joins',
    groups: 1,
    membersPerGroup: members,
    partitions: 10 * members,
  });
  const inMany = await measure(bench, { work: 'heartbeats', groups, membersPerGroup: 10, ms });
  const inOne = await measure(bench, { work: 'heartbeats', groups: 1, membersPerGroup: members, ms });
  const rate = (what: string, result: GroupMachineResult): Cell[] => {
    const { p50Ms, p99Ms, maxMs } = Histogram.of([result.joins]).percentiles();
    const timed = result.joins.buckets.length > 0;
    return [what, perSecond(result), ...(timed ? [p50Ms, p99Ms, maxMs, result.rowsPerJoin] : [])];
  };
  bench.report.section(
    'The coordinator alone: rates',
    ['what', 'per second', 'p50 ms', 'p99 ms', 'max ms', 'rows written'],
    [
      rate(`joins, ${groups} groups of 10 members, 30 partitions each`, joins),
      rate(`joins one by one, 1 group of up to ${members}, ${10 * members} partitions`, intoOne),
      rate(`heartbeats, ${groups} groups of 10 members`, inMany),
      rate(`heartbeats, 1 group of ${members} members`, inOne),
    ],
    ['A join is a rebalance, until everything has arrived; members give back at once what they are asked for.'],
  );
  bench.report.atLeast('machine: joins', 10_000, perSecond(joins), '/s');
  bench.report.atLeast('machine: heartbeats, many groups', 1_000_000, perSecond(inMany), '/s');
  bench.report.atLeast('machine: heartbeats, one group', 1_000_000, perSecond(inOne), '/s');
  await rebalances(bench);
}

/** The longest step at the limits: 1,000 members and 100,000 partitions. */
export async function runSteps(bench: Bench): Promise<void> {
  bench.say('the longest step');
  const size = bySize(bench, {
    smoke: { members: 100, topics: 10, partitions: 1_000, times: 2 },
    full: { members: 1_000, topics: 100, partitions: 100_000, times: 5 },
  });
  const assignors = ['sticky', 'range', 'round_robin', 'the leader'];
  const results: GroupStepsResult[] = [];
  for (const assignor of assignors) {
    const leaderAssigns = assignor === 'the leader';
    const spec = { ...size, assignor: leaderAssigns ? 'sticky' : assignor, leaderAssigns };
    results.push(await measureApart<GroupStepsSpec, GroupStepsResult>('group-steps', spec, profileFlags(bench)));
  }
  const events = Object.keys(results[0]!);
  bench.report.section(
    `The coordinator alone: the longest step, ms of CPU, best time; ${size.members} members, ${size.partitions} partitions`,
    ['event', 'times', ...assignors],
    events.map((event) => [event, size.times, ...results.map((result) => Math.min(...result[event]!))]),
    [
      'A step does not give way to other work. An event takes several: revoked partitions come back in one of their own.',
      'The best time counts, because a busy machine and a collection of garbage make the others longer.',
    ],
  );
  const ofOne = results.flatMap((result) => ['one joins', 'one leaves'].map((event) => Math.min(...result[event]!)));
  bench.report.atMost('steps: one joins or leaves, CPU', 100, Math.max(...ofOne), 'ms');
}

async function rebalances(bench: Bench): Promise<void> {
  const one = (members: number, topics: number, partitions: number, times: number): Rejoins => {
    return { work: 'rejoins', members, topics, partitions, assignor: 'sticky', times };
  };
  const sizes = bySize(bench, {
    smoke: [one(100, 1, 1_000, 4)],
    full: [one(1_000, 1, 10_000, 100), one(1_000, 100, 100_000, 20)],
  });
  const rows: Cell[][] = [];
  for (const spec of sizes) {
    const result = await measure(bench, spec);
    for (const [cause, data] of Object.entries({ join: result.joins, leave: result.leaves })) {
      const { count, p50Ms, p99Ms, maxMs } = Histogram.of([data]).percentiles();
      rows.push([spec.members, spec.partitions, cause, count, perSecond(result), p50Ms, p99Ms, maxMs]);
    }
    if (spec.partitions !== 10_000) continue;
    const both = Histogram.of([result.joins, result.leaves]).percentiles();
    bench.report.atMost('machine: rebalance of 1,000 members, 10,000 partitions, p99', 100, both.p99Ms, 'ms');
  }
  bench.report.section(
    'The coordinator alone: rebalances of a group at rest, sticky',
    ['members', 'partitions', 'cause', 'times', 'rebalances/s', 'p50 ms', 'p99 ms', 'max ms'],
    rows,
  );
}

/** Measures one join into groups of 10 to 10,000 members, with 10 partitions for each member. */
export async function runCurve(bench: Bench): Promise<void> {
  bench.say('the curve of a join');
  const sizes = bySize(bench, { smoke: [10, 100, 1_000], full: [10, 100, 1_000, 10_000] });
  const rows: Cell[][] = [];
  for (const assignor of ['sticky', 'range']) {
    const points: Point[] = [];
    for (const n of sizes) {
      const times = bySize(bench, { smoke: 4, full: n > 1_000 ? 20 : 200 });
      const spec = { work: 'rejoins', members: n, topics: 1, partitions: 10 * n, assignor, times } as const;
      const result = await measure(bench, spec);
      const { p50Ms, p99Ms } = Histogram.of([result.joins]).percentiles();
      const before = points.at(-1);
      points.push({ n, ms: p50Ms });
      const growth = before === undefined ? null : againstNLogN(before, points.at(-1)!);
      rows.push([assignor, n, 10 * n, times, p50Ms, p99Ms, result.rowsPerJoin, growth]);
    }
    // A smoke run has too few joins for a judgement.
    if (bench.size === 'smoke') continue;
    const exponent = fittedExponent(points);
    bench.report.atMost(`machine: exponent of a join, ${assignor}`, exponentOfNLogN(points), exponent, '');
  }
  bench.report.section(
    'The coordinator alone: one join into a group at rest, by its size',
    ['assignor', 'members', 'partitions', 'times', 'p50 ms', 'p99 ms', 'rows written', 'growth / n log n'],
    rows,
    [
      'Growth: of the p50 from the size before, as a multiple of what n log n grows by; 1 is n log n, less is better.',
      'The exponent is that of the power law that fits the p50 best; its target is the exponent of n log n over the same sizes.',
    ],
  );
}
