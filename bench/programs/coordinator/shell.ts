import type { GroupShellResult, GroupShellSpec } from '../../load/group-shell.ts';
import { Histogram } from '../../support/histogram.ts';
import { measureApart } from '../../support/load-process.ts';
import { bySize, profileFlags } from '../../support/site.ts';
import type { Bench } from '../../support/site.ts';
import type { Cell } from '../../support/table.ts';

type Shape = Pick<GroupShellSpec, 'groups' | 'membersPerGroup' | 'topics' | 'partitionsPerTopic'>;

const shapes: Readonly<Record<Bench['size'], readonly Shape[]>> = {
  smoke: [
    { groups: 100, membersPerGroup: 10, topics: 1, partitionsPerTopic: 12 },
    { groups: 1, membersPerGroup: 10, topics: 10, partitionsPerTopic: 100 },
  ],
  full: [
    { groups: 1_000, membersPerGroup: 10, topics: 1, partitionsPerTopic: 12 },
    { groups: 10_000, membersPerGroup: 10, topics: 1, partitionsPerTopic: 12 },
    { groups: 1, membersPerGroup: 1_000, topics: 1, partitionsPerTopic: 10_000 },
    { groups: 1, membersPerGroup: 100, topics: 100, partitionsPerTopic: 1_000 },
    { groups: 1, membersPerGroup: 10, topics: 100, partitionsPerTopic: 1_000 },
  ],
};

/**
 * Measures groups with all code between the edges and the database. The database answers at once.
 */
export async function runShell(bench: Bench): Promise<void> {
  const rows: Cell[][] = [];
  for (const shape of shapes[bench.size]) {
    const partitions = shape.topics * shape.partitionsPerTopic;
    bench.say(`in process: ${shape.groups} groups of ${shape.membersPerGroup} members over ${partitions} partitions`);
    const heartbeatMs = bySize(bench, { smoke: 200, full: 2_000 });
    const rejoins = bySize(bench, { smoke: 2, full: 20 });
    const flags = ['--expose-gc', ...profileFlags(bench)];
    const spec = { ...shape, heartbeatMs, rejoins };
    const result = await measureApart<GroupShellSpec, GroupShellResult>('group-shell', spec, flags);
    rows.push(row(shape, partitions, result));
    bench.report.atMost(
      `in process: rows written by heartbeats, ${partitions} partitions`,
      0,
      result.rowsPerHeartbeat,
      '',
    );
    if (shape.groups === 10_000) bench.report.atLeast('in process: joins', 10_000, result.joinsPerSecond, '/s');
  }
  bench.report.section(
    'In process: groups at work, the database answers at once',
    [
      'groups',
      'members each',
      'partitions',
      'joins/s',
      'heartbeats/s',
      'heap MiB',
      'KiB a member',
      'resident MiB',
      'one join p50 ms',
      'one join max ms',
    ],
    rows,
    [
      'Joins of many groups: each gets one member after the other; of one group: all come at once. Members are streams.',
      'Heap: of groups, members and cursors, after a collection, without the logs. One join: to its first Assigned with partitions.',
    ],
  );
}

function row(shape: Shape, partitions: number, result: GroupShellResult): Cell[] {
  const { groups, membersPerGroup } = shape;
  const { p50Ms, maxMs } = Histogram.of([result.rejoin]).percentiles();
  return [
    groups,
    membersPerGroup,
    partitions,
    Math.round(result.joinsPerSecond),
    Math.round(result.heartbeatsPerSecond),
    result.heapMib,
    (result.heapMib * 1024) / groups / membersPerGroup,
    Math.round(result.rssMib),
    p50Ms,
    maxMs,
  ];
}
