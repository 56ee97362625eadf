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
 * Whether members with these rules could assign together with those who are there. All do it, or none: a member that streams without
 * having joined by itself cannot be asked for a plan.
 */
export function areConsistent(clientAssignors: readonly string[], others: Iterable<Member>): boolean {
  let common = [...clientAssignors];
  for (const { row } of others) {
    if (row.clientAssignors.length === 0) return clientAssignors.length === 0;
    common = common.filter((name) => row.clientAssignors.includes(name));
    if (common.length === 0) return false;
  }
  return true;
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
