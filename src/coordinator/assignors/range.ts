import { NOBODY, readersByTopic, type Assignor } from './assignor.ts';

/**
 * Gives each reader of a topic a run of neighbouring partitions; the first readers get one more
 * where the number does not divide. Topics with the same readers and partition counts are split
 * alike, which joins by key rely on.
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
