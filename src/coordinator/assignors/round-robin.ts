import { NOBODY, readersByTopic, type Assignor } from './assignor.ts';

/** All partitions of all topics dealt out in turn; a member that does not read the topic is passed over. */
export const roundRobin: Assignor = (input) => {
  const readers = readersByTopic(input);
  const assignment = new Map<number, Int32Array>();
  let turn = 0;
  input.topics.forEach((topic, index) => {
    const owners = new Int32Array(topic.partitions).fill(NOBODY);
    const candidates = readers[index] ?? [];
    let next = firstFrom(candidates, turn);
    for (let partition = 0; partition < owners.length && candidates.length > 0; partition++) {
      const owner = candidates[next % candidates.length] ?? NOBODY;
      owners[partition] = owner;
      turn = owner + 1;
      next = (next % candidates.length) + 1;
    }
    assignment.set(topic.topicId, owners);
  });
  return assignment;
};

/** Where in `candidates`, ascending, the first one at or after `turn` stands; their count if there is none. */
function firstFrom(candidates: readonly number[], turn: number): number {
  const found = candidates.findIndex((candidate) => candidate >= turn);
  return found === -1 ? candidates.length : found;
}
