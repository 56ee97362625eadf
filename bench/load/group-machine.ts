import type { MemberId } from '../../src/coordinator/group.ts';
import { DrivenGroup, joining, leaving } from '../support/bare/driven-group.ts';
import { Histogram } from '../support/histogram.ts';
import type { HistogramData } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';

/** The coordinator alone in its own process, without a shell, a database and a network. */
export type GroupMachineSpec =
  /** Members join one by one, each group in turn. */
  | { readonly work: 'joins'; readonly groups: number; readonly membersPerGroup: number; readonly partitions: number }
  /** All members send heartbeats in turn for `ms`. */
  | { readonly work: 'heartbeats'; readonly groups: number; readonly membersPerGroup: number; readonly ms: number }
  /** One member joins a group at rest and leaves again, `times` times. */
  | {
      readonly work: 'rejoins';
      readonly members: number;
      readonly topics: number;
      readonly partitions: number;
      readonly assignor: string;
      readonly times: number;
    };

export interface GroupMachineResult {
  readonly count: number;
  readonly elapsedMs: number;
  /** The time of each join, with its rebalance. */
  readonly joins: HistogramData;
  /** The time of each leave, with its rebalance. */
  readonly leaves: HistogramData;
  /** The mean number of rows that a store would have written for a join. */
  readonly rowsPerJoin: number;
}

type Timed = Omit<GroupMachineResult, 'joins' | 'leaves'> & { readonly joins?: Histogram; readonly leaves?: Histogram };

function timed(histogram: Histogram, work: () => void): void {
  const startMs = performance.now();
  work();
  histogram.record((performance.now() - startMs) * 1000);
}

function joins({ groups, membersPerGroup, partitions }: Extract<GroupMachineSpec, { work: 'joins' }>): Timed {
  const round = (): { joins: Histogram; rows: number; elapsedMs: number } => {
    const all = Array.from({ length: groups }, () => new DrivenGroup(1, partitions));
    const histogram = new Histogram();
    const startMs = performance.now();
    for (let member = 0; member < membersPerGroup; member++) {
      for (const group of all) {
        timed(histogram, () => {
          group.step([joining(`member-${member}`, 1, 'sticky')]);
        });
      }
    }
    const elapsedMs = performance.now() - startMs;
    return { joins: histogram, rows: all.reduce((sum, { rowsWritten }) => sum + rowsWritten, 0), elapsedMs };
  };
  round();
  const { rows, elapsedMs, joins: histogram } = round();
  const count = groups * membersPerGroup;
  return { count, elapsedMs, joins: histogram, rowsPerJoin: rows / count };
}

function heartbeats({ groups, membersPerGroup, ms }: Extract<GroupMachineSpec, { work: 'heartbeats' }>): Timed {
  const ids = Array.from({ length: membersPerGroup }, (_, member) => `member-${member}` as MemberId);
  const all = Array.from({ length: groups }, () => {
    const group = new DrivenGroup(1, membersPerGroup * 3);
    group.step(ids.map((id) => joining(id, 1, 'sticky')));
    return group;
  });
  let count = 0;
  const startMs = performance.now();
  for (let nowMs = startMs; nowMs - startMs < ms; nowMs = performance.now()) {
    for (const id of ids) for (const group of all) group.alive(id, nowMs - startMs);
    count += groups * membersPerGroup;
  }
  return { count, elapsedMs: performance.now() - startMs, rowsPerJoin: 0 };
}

function rejoins(spec: Extract<GroupMachineSpec, { work: 'rejoins' }>): Timed {
  const { members, topics, partitions, assignor, times } = spec;
  const group = new DrivenGroup(topics, partitions);
  group.step(Array.from({ length: members }, (_, member) => joining(`member-${member}`, topics, assignor)));
  let comeAndGone = 0;
  const comeAndGo = (joined: Histogram, left: Histogram, often: number): void => {
    for (let i = 0; i < often; i++) {
      const name = `late-${comeAndGone++}`;
      timed(joined, () => {
        group.step([joining(name, topics, assignor)]);
      });
      timed(left, () => {
        group.step([leaving(name)]);
      });
    }
  };
  comeAndGo(new Histogram(), new Histogram(), Math.ceil(times / 4));
  const rowsBefore = group.rowsWritten;
  const [joined, left] = [new Histogram(), new Histogram()];
  const startMs = performance.now();
  comeAndGo(joined, left, times);
  const elapsedMs = performance.now() - startMs;
  // A leave writes as many rows as its join, because the partitions return.
  const rowsPerJoin = (group.rowsWritten - rowsBefore) / times / 2;
  return { count: 2 * times, elapsedMs, joins: joined, leaves: left, rowsPerJoin };
}

function run(spec: GroupMachineSpec): Timed {
  if (spec.work === 'joins') return joins(spec);
  return spec.work === 'heartbeats' ? heartbeats(spec) : rejoins(spec);
}

runLoad<GroupMachineSpec, GroupMachineResult>((spec) => {
  const result = run(spec);
  return Promise.resolve({
    start: () => undefined,
    mark: () => undefined,
    collect: () => ({
      ...result,
      joins: (result.joins ?? new Histogram()).toData(),
      leaves: (result.leaves ?? new Histogram()).toData(),
    }),
    stop: () => Promise.resolve(),
  });
});
