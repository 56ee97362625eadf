import type { Assignment, AssignorInput } from './assignors/assignor.ts';
import { Slots, type SlotFault } from './assignors/slots.ts';
import type { PlannedPartition } from './step.ts';

/** Assignment by the members themselves: the leader, which joined first, sends a plan. */

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
