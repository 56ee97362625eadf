import { NOBODY, readersByTopic, type Assignor } from './assignor.ts';

/**
 * Of each topic, a run of neighbouring partitions to each of its readers; the first readers get one more where it does
 * not divide. Partitions of the same number of different topics come to the same member if both topics have the same
 * readers and partition counts, which is what joins by key rely on.
 */
export const range: Assignor = (input) => {
  const readers = readersByTopic(input);
  return new Map(
    input.topics.map((topic, index) => [topic.topicId, runs(topic.partitions, readers[index] ?? [])] as const),
  );
};

function runs(partitions: number, readers: readonly number[]): Int32Array {
  const owners = new Int32Array(partitions).fill(NOBODY);
  const each = Math.floor(partitions / readers.length);
  const oneMore = partitions % readers.length;
  let start = 0;
  readers.forEach((reader, rank) => {
    const end = start + each + (rank < oneMore ? 1 : 0);
    owners.fill(reader, start, end);
    start = end;
  });
  return owners;
}
