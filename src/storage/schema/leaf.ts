/**
 * The names of the tables of the log. Every statement names the leaf, so that a lock on the parent
 * blocks neither appends nor reads.
 */

/** The table of all segments of a topic. */
export function topicTable(topicId: number): string {
  return `millrace.record_batches_${integer(topicId)}`;
}

/** The table of one segment of a topic. */
export function leafTable(topicId: number, segment: number): string {
  return `millrace.record_batches_${integer(topicId)}_${integer(segment)}`;
}

/** Writes a number into the text of a statement, because COPY takes no parameters. */
export function integer(value: number): string {
  if (!Number.isSafeInteger(value)) throw new Error(`${value} is not an integer`);
  return String(value);
}

/**
 * The condition for one log. It names all columns of the leaf's primary key before the offset, so
 * that the planner uses the index.
 */
export function ofLog(topicId: number, segment: number, partition: string, lane: string): string {
  return `topic_id = ${integer(topicId)} AND segment = ${integer(segment)} AND partition = ${partition} AND lane = ${lane}`;
}
