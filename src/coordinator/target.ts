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
  members.forEach((member, index) => {
    member.index = index;
  });
  return {
    members: members.map((member) => member.row),
    topics: topics.map((topic) => ({ topicId: topic.topicId, partitions: topic.partitions.length })),
    previous: new Map(topics.map((topic) => [topic.topicId, holdersOf(topic, members)])),
  };
}

function holdersOf({ partitions }: Topic, members: readonly Member[]): Int32Array {
  const found = new Int32Array(partitions.length);
  // With `Int32Array.from` a rebalance of 100,000 partitions takes twice as long in total.
  for (let at = 0; at < found.length; at++) {
    const { holder } = present(partitions[at], 'a topic has each of its partitions');
    // The index of a member that gets no partitions is that of an earlier input.
    found[at] = holder !== null && members[holder.index] === holder ? holder.index : NOBODY;
  }
  return found;
}

/** @returns whether any target changed. */
export function setTargets(assignment: Assignment, members: readonly Member[], topics: readonly Topic[]): boolean {
  let changed = false;
  for (const { topicId, partitions } of topics) {
    const owners = assignment.get(topicId);
    for (let at = 0; at < partitions.length; at++) {
      const partition = present(partitions[at], 'a topic has each of its partitions');
      const owner = owners?.[at] ?? NOBODY;
      const target = owner === NOBODY ? null : (members[owner] ?? null);
      if (partition.target === target) continue;
      partition.target = target;
      changed = true;
    }
  }
  return changed;
}

/**
 * Every partition stays with its holder, if the holder still reads the topic. @returns whether that
 * is a full assignment: each partition with a reader has a holder, and none has to be given back.
 */
export function keepTargets(members: readonly Member[], topics: readonly Topic[]): boolean {
  let complete = true;
  const input = assignorInput(members, topics);
  const readers = readersByTopic(input);
  const marks = new Marks(members.length);
  for (const [at, { topicId, partitions }] of topics.entries()) {
    const reading = readers[at] ?? [];
    marks.set(reading);
    const holders = input.previous.get(topicId);
    for (let index = 0; index < partitions.length; index++) {
      const partition = present(partitions[index], 'a topic has each of its partitions');
      partition.target = marks.has(holders?.[index] ?? NOBODY) ? partition.holder : null;
      if (partition.target === null && (reading.length > 0 || partition.holder !== null)) complete = false;
    }
  }
  return complete;
}

/** A set of members by their indexes. It is asked for each partition. */
class Marks {
  readonly #marked: Uint8Array;
  #members: readonly number[] = [];

  constructor(members: number) {
    this.#marked = new Uint8Array(members);
  }

  set(members: readonly number[]): void {
    for (const member of this.#members) this.#marked[member] = 0;
    for (const member of members) this.#marked[member] = 1;
    this.#members = members;
  }

  has(member: number): boolean {
    return member !== NOBODY && this.#marked[member] === 1;
  }
}

function checkedAnswer(assignor: Assignor, input: AssignorInput): Assignment {
  const readers = readersByTopic(input);
  try {
    const assignment = assignor(input);
    const marks = new Marks(input.members.length);
    for (const [at, topic] of input.topics.entries()) {
      marks.set(readers[at] ?? []);
      checkOwners(assignment, topic, marks, readers[at]?.length === 0);
    }
    return assignment;
  } catch (cause) {
    if (cause instanceof AssignorError) throw cause;
    throw new AssignorError(`it threw: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** A topic that nobody reads has no owners. */
function checkOwners(assignment: Assignment, topic: AssignorTopic, readers: Marks, isUnread: boolean): void {
  const { topicId, partitions } = topic;
  const owners = assignment.get(topicId);
  if (owners?.length !== partitions) {
    const given = owners === undefined ? 'none' : String(owners.length);
    throw new AssignorError(`the assignor gave out ${given} of the ${partitions} partitions of topic ${topicId}`);
  }
  const wrong = owners.findIndex((owner) => (isUnread ? owner !== NOBODY : !readers.has(owner)));
  if (wrong === -1) return;
  const to = owners[wrong] === NOBODY ? 'nobody' : `member ${owners[wrong]}, which does not read the topic`;
  throw new AssignorError(`the assignor gave partition ${wrong} of topic ${topicId} to ${to}`);
}
