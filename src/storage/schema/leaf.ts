/** Names of the tables that hold the log. Broker and readers use the leaves by name: a lock on the parent stops nobody. */

/** All segments of a topic. */
export function topicTable(topicId: number): string {
  return `millrace.record_batches_${integer(topicId)}`;
}

/** One segment of a topic. */
export function leafTable(topicId: number, segment: number): string {
  return `millrace.record_batches_${integer(topicId)}_${integer(segment)}`;
}

/** A number that may stand in the text of a statement: COPY takes no parameters. */
export function integer(value: number): string {
  if (!Number.isSafeInteger(value)) throw new Error(`${value} is not an integer`);
  return String(value);
}

/** The condition for one log; the columns of the leaf's key come in its order, so that the index is used. */
export function ofLog(topicId: number, segment: number, partition: string, lane: string): string {
  return `topic_id = ${integer(topicId)} AND segment = ${integer(segment)} AND partition = ${partition} AND lane = ${lane}`;
}
