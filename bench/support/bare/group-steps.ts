import type { Group, GroupInput } from '../../../src/coordinator/group.ts';
import { DrivenGroup, joining, leaving } from './driven-group.ts';

/** The steps of the coordinator of one large group. */
export interface GroupStepsSpec {
  readonly members: number;
  readonly topics: number;
  readonly partitions: number;
  readonly assignor: string;
  /** The leader assigns, and not the broker. */
  readonly leaderAssigns: boolean;
  readonly times: number;
}

/** By the event: the CPU of its longest step, in ms, each time. */
export type GroupStepsResult = Readonly<Record<string, readonly number[]>>;

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

/** A step keeps the event loop until it is over, so the longest one counts, by its CPU. */
export function measureSteps(spec: GroupStepsSpec): GroupStepsResult {
  const results: Record<string, number[]> = {};
  const driven = new DrivenGroup(spec.topics, spec.partitions);
  const measure = (what: string, inputs: readonly GroupInput[]): void => {
    let longestMs = 0;
    for (let next = inputs; next.length > 0;) {
      const beganMs = cpuMs();
      const effects = driven.group.step(next, 0);
      longestMs = Math.max(longestMs, cpuMs() - beganMs);
      next = driven.givenBack(effects);
      if (next.length === 0 && driven.group.awaitsPlan) next = [planOf(driven.group, spec)];
    }
    (results[what] ??= []).push(longestMs);
  };
  const join = (instanceId: string, process = 1): GroupInput => {
    const options = { instanceId, clientAssignors: spec.leaderAssigns ? ['of-the-bench'] : [] };
    return joining(`${instanceId}-${process}`, spec.topics, spec.assignor, options);
  };
  const names = Array.from({ length: spec.members }, (_, at) => `member-${at}`);
  const others = names.slice(1);
  for (let time = 0; time < spec.times; time++) {
    measure(
      'all join at once',
      names.map((name) => join(name)),
    );
    measure('one joins', [join('late')]);
    measure('one leaves', [leaving('late-1')]);
    measure(
      'all are replaced at once',
      names.map((name) => join(name, 2)),
    );
    measure(
      'all but one leave at once',
      others.map((name) => leaving(`${name}-2`)),
    );
    measure(
      'all but one join at once',
      others.map((name) => join(name, 2)),
    );
    measure(
      'all leave at once',
      names.map((name) => leaving(`${name}-2`)),
    );
  }
  return results;
}

/** Deals out the partitions in turn, and begins with another member in each generation. */
function planOf(group: Group, { topics, partitions }: GroupStepsSpec): GroupInput {
  const memberIds = group.members().map(({ memberId }) => memberId);
  const plan = Array.from({ length: partitions }, (_, at) => ({
    topicId: 1 + (at % topics),
    partition: Math.floor(at / topics),
    memberId: memberIds[(at + group.generation) % memberIds.length]!,
  }));
  return { type: 'assign', memberId: memberIds[0]!, generation: group.generation, plan };
}
