import type { Assignment, AssignorInput } from './assignors/assignor.ts';
import { Slots, type SlotFault } from './assignors/slots.ts';
import type { Member } from './member.ts';
import type { Roster } from './roster.ts';
import type { PlannedPartition } from './step.ts';

/** Assignment by the members themselves: the leader, which joined first, sends a plan. */

/** The leader's best rule that all members have; null: the broker assigns. */
export function clientAssignorOf(roster: Roster): string | null {
  const rules = roster.first?.row.clientAssignors ?? [];
  // In nearly every group the broker assigns, and the members need not be copied to see that.
  if (rules.length === 0) return null;
  const members = [...roster];
  return rules.find((name) => members.every(({ row }) => row.clientAssignors.includes(name))) ?? null;
}

/**
 * Whether a member with these rules could assign together with the current members, except those
 * that it replaces. All members assign by rules of their own, or none does: a member that only
 * streams cannot be asked for a plan.
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
    // The members agree with one another, so the first one is enough: a thousand joins stay linear.
    if (clientAssignors.length === 0) return theirs.length === 0;
    common = common.filter((name) => theirs.includes(name));
  }
  return clientAssignors.length === 0 || common.length > 0;
}

/**
 * The leader's plan as an assignment, or its error: it must name each partition with a reader once.
 */
export function assignmentOf(plan: readonly PlannedPartition[], input: AssignorInput): Assignment | string {
  const slots = new Slots(input);
  for (const planned of plan) {
    const fault = slots.give(planned.topicId, planned.partition, planned.memberId);
    if (fault !== null) return words[fault](planned);
  }
  const forgotten = slots.forgotten();
  if (forgotten === null) return slots.assignment;
  return `partition ${forgotten.partition} of topic ${forgotten.topicId} is assigned to nobody`;
}

const nothingThere = ({ topicId, partition }: PlannedPartition): string =>
  `there is no partition ${partition} of topic ${topicId} to assign`;

const words: Readonly<Record<SlotFault, (planned: PlannedPartition) => string>> = {
  NO_TOPIC: nothingThere,
  NO_PARTITION: nothingThere,
  NO_MEMBER: ({ memberId }) => `"${memberId}" is not a member that can get partitions now`,
  NO_READER: ({ memberId, topicId }) => `"${memberId}" does not read topic ${topicId}`,
  TWICE: ({ topicId, partition }) => `partition ${partition} of topic ${topicId} is assigned twice`,
};
