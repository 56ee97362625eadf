import { AssignorError } from './assignors/assignor-error.ts';
import {
  NOBODY,
  readersByTopic,
  type Assignment,
  type Assignor,
  type AssignorInput,
  type AssignorTopic,
} from './assignors/assignor.ts';
import type { Member } from './member.ts';
import type { Topic } from './topic.ts';
import { present } from '../errors/present.ts';

/**
 * Asks the assignor and writes its answer into the partitions' targets. @returns whether any target
 * changed. `topics` ascend by id, `members` are in the order of joining.
 *
 * @throws AssignorError if the assignor fails. Then no target has changed.
 */
export function retarget(assignor: Assignor, members: readonly Member[], topics: readonly Topic[]): boolean {
  return setTargets(checkedAnswer(assignor, assignorInput(members, topics)), members, topics);
}

export function assignorInput(members: readonly Member[], topics: readonly Topic[]): AssignorInput {
  const indexes = new Map(members.map((member, index) => [member, index]));
  const holders = ({ partitions }: Topic): Int32Array => {
    const found = new Int32Array(partitions.length);
    // With `Int32Array.from` a rebalance of 100,000 partitions takes twice as long in total.
    for (let at = 0; at < found.length; at++) {
      const { holder } = present(partitions[at], 'there are as many holders as partitions');
      found[at] = holder === null ? NOBODY : (indexes.get(holder) ?? NOBODY);
    }
    return found;
  };
  return {
    members: members.map((member) => member.row),
    topics: topics.map((topic) => ({ topicId: topic.topicId, partitions: topic.partitions.length })),
    previous: new Map(topics.map((topic) => [topic.topicId, holders(topic)])),
  };
}

/** @returns whether any target changed. */
export function setTargets(assignment: Assignment, members: readonly Member[], topics: readonly Topic[]): boolean {
  let changed = false;
  for (const topic of topics) {
    const owners = assignment.get(topic.topicId);
    topic.partitions.forEach((partition, index) => {
      const target = members[owners?.[index] ?? NOBODY] ?? null;
      if (partition.target === target) return;
      partition.target = target;
      changed = true;
    });
  }
  return changed;
}

/**
 * Every partition stays with its holder, if the holder still reads the topic. @returns whether that
 * is a full assignment: each partition with a reader has a holder, and none has to be given back.
 */
export function keepTargets(members: readonly Member[], topics: readonly Topic[]): boolean {
  let complete = true;
  for (const { topicId, partitions } of topics) {
    const readers = new Set(members.filter(({ row }) => row.topicIds.includes(topicId)));
    for (const partition of partitions) {
      partition.target = partition.holder !== null && readers.has(partition.holder) ? partition.holder : null;
      if (partition.target === null && (readers.size > 0 || partition.holder !== null)) complete = false;
    }
  }
  return complete;
}

function checkedAnswer(assignor: Assignor, input: AssignorInput): Assignment {
  const readers = readersByTopic(input);
  try {
    const assignment = assignor(input);
    input.topics.forEach((topic, at) => {
      checkOwners(assignment, topic, readers[at] ?? []);
    });
    return assignment;
  } catch (cause) {
    if (cause instanceof AssignorError) throw cause;
    throw new AssignorError(`it threw: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

function checkOwners(assignment: Assignment, topic: AssignorTopic, readers: readonly number[]): void {
  const { topicId, partitions } = topic;
  const owners = assignment.get(topicId);
  if (owners?.length !== partitions) {
    const given = owners === undefined ? 'none' : String(owners.length);
    throw new AssignorError(`the assignor gave out ${given} of the ${partitions} partitions of topic ${topicId}`);
  }
  const mayOwn = new Set(readers.length > 0 ? readers : [NOBODY]);
  const wrong = owners.findIndex((owner) => !mayOwn.has(owner));
  if (wrong === -1) return;
  const to = owners[wrong] === NOBODY ? 'nobody' : `member ${owners[wrong]}, which does not read the topic`;
  throw new AssignorError(`the assignor gave partition ${wrong} of topic ${topicId} to ${to}`);
}
