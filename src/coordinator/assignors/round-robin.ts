import { NOBODY, readersByTopic, type Assignor } from './assignor.ts';

/** Deals out all partitions of all topics in turn, and skips members that do not read the topic. */
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

/**
 * The index of the first entry of `candidates` (ascending) at or after `turn`; their count if none.
 */
function firstFrom(candidates: readonly number[], turn: number): number {
  const found = candidates.findIndex((candidate) => candidate >= turn);
  return found === -1 ? candidates.length : found;
}
