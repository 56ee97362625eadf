import { NOBODY, type Assignment, type AssignorInput, readersByTopic } from './assignors/assignor.ts';
import type { Member } from './member.ts';
import type { PlannedPartition } from './step.ts';

/** Assignment by the members themselves: the one that joined first, the leader, says who gets what. */

/** The rule by which the members give out partitions: the leader's best that all can; null: the broker does. */
export function clientAssignorOf(members: Iterable<Member>): string | null {
  const [leader, ...others] = members;
  if (leader === undefined) return null;
  const everybodyCan = (name: string): boolean => others.every(({ row }) => row.clientAssignors.includes(name));
  return leader.row.clientAssignors.find(everybodyCan) ?? null;
}

/**
 * Whether a member with these rules could assign together with those who are there, but for the ones that it stands for. All do it, or
 * none: a member that streams without having joined by itself cannot be asked for a plan.
 */
export function areConsistent(
  clientAssignors: readonly string[],
  members: Iterable<Member>,
  except: readonly (Member | undefined)[],
): boolean {
  let common = clientAssignors;
  for (const member of members) {
    if (except.includes(member)) continue;
    const theirs = member.row.clientAssignors;
    // The members agree among themselves, so the first answers for all: a thousand joins must not look at a million members.
    if (clientAssignors.length === 0) return theirs.length === 0;
    common = common.filter((name) => theirs.includes(name));
  }
  return clientAssignors.length === 0 || common.length > 0;
}

/**
 * The leader's plan as an assignment, or what is wrong with it: it names everything that somebody reads exactly once.
 */
export function assignmentOf(plan: readonly PlannedPartition[], input: AssignorInput): Assignment | string {
  const indexes = new Map(input.members.map((member, index) => [member.memberId, index]));
  const assignment = new Map(
    input.topics.map(({ topicId, partitions }) => [topicId, new Int32Array(partitions).fill(NOBODY)]),
  );
  for (const { topicId, partition, memberId } of plan) {
    const owners = assignment.get(topicId);
    const index = indexes.get(memberId);
    if (owners?.[partition] === undefined) return `there is no partition ${partition} of topic ${topicId} to assign`;
    if (index === undefined) return `"${memberId}" is not a member that can get partitions now`;
    if (input.members[index]?.topicIds.includes(topicId) !== true)
      return `"${memberId}" does not read topic ${topicId}`;
    if (owners[partition] !== NOBODY) return `partition ${partition} of topic ${topicId} is assigned twice`;
    owners[partition] = index;
  }
  return forgotten(assignment, input) ?? assignment;
}

function forgotten(assignment: Assignment, input: AssignorInput): string | null {
  const readers = readersByTopic(input);
  for (const [at, { topicId }] of input.topics.entries()) {
    if (readers[at]?.length === 0) continue;
    const partition = assignment.get(topicId)?.indexOf(NOBODY) ?? -1;
    if (partition >= 0) return `partition ${partition} of topic ${topicId} is assigned to nobody`;
  }
  return null;
}
