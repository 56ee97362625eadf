import type { Assignment, AssignorInput } from './assignors/assignor.ts';
import { Slots, type SlotFault } from './assignors/slots.ts';
import type { Member } from './member.ts';
import type { Roster } from './roster.ts';
import type { PlannedPartition } from './step.ts';

/** Assignment by the members themselves: the one that joined first, the leader, says who gets what. */

/** The rule by which the members give out partitions: the leader's best that all can; null: the broker does. */
export function clientAssignorOf(roster: Roster): string | null {
  const rules = roster.first?.row.clientAssignors ?? [];
  // Nearly every group: its members need not be copied to see that.
  if (rules.length === 0) return null;
  const members = [...roster];
  return rules.find((name) => members.every(({ row }) => row.clientAssignors.includes(name))) ?? null;
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
