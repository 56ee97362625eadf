import assert from 'node:assert/strict';
import { NOBODY, readersByTopic, type Assignment, type Assignor, type AssignorInput } from './assignors/assignor.ts';
import type { Member } from './member.ts';
import type { Topic } from './partition.ts';

/**
 * Asks the assignor who should have what and writes it into the partitions' targets. True if any target changed.
 * `topics` ascend by id, `members` stand in the order of joining.
 */
export function retarget(assignor: Assignor, members: readonly Member[], topics: readonly Topic[]): boolean {
  const input = assignorInput(members, topics);
  const assignment = assignor(input);
  const readers = readersByTopic(input);
  topics.forEach((topic, at) => {
    checkOwners(assignment, topic, readers[at] ?? []);
  });
  return setTargets(assignment, members, topics);
}

export function assignorInput(members: readonly Member[], topics: readonly Topic[]): AssignorInput {
  const indexes = new Map(members.map((member, index) => [member, index]));
  const holders = (topic: Topic): Int32Array =>
    Int32Array.from(topic.partitions, ({ holder }) => (holder === null ? NOBODY : (indexes.get(holder) ?? NOBODY)));
  return {
    members: members.map((member) => member.row),
    topics: topics.map((topic) => ({ topicId: topic.topicId, partitions: topic.partitions.length })),
    previous: new Map(topics.map((topic) => [topic.topicId, holders(topic)])),
  };
}

/** True if any target changed. */
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
 * Every partition stays where it is, if its holder still reads the topic. @returns whether that is all: each that somebody reads has a
 * holder, and none has to be given back.
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

/** An assignor that forgets a partition, or gives one to a member that does not read its topic, is a bug. */
function checkOwners(assignment: Assignment, topic: Topic, readers: readonly number[]): void {
  const { topicId, partitions } = topic;
  const owners = assignment.get(topicId);
  assert(owners?.length === partitions.length, `the assignor left out partitions of topic ${topicId}`);
  const mayOwn = new Set(readers.length > 0 ? readers : [NOBODY]);
  for (const owner of owners) assert(mayOwn.has(owner), `the assignor gave topic ${topicId} to a wrong member`);
}
