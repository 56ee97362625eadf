import { rejection, type FieldsOf, type RejectionOf } from './rejection.ts';

/** A deleted topic is named by its id, because its name is gone. */
export function topicNotFound(
  topic: { readonly topic: string } | { readonly deletedId: number },
): RejectionOf<'TOPIC_NOT_FOUND'> {
  if ('deletedId' in topic) {
    return rejection('TOPIC_NOT_FOUND', `topic ${topic.deletedId} has been deleted`, { topic: null });
  }
  const message = `there is no topic "${topic.topic}": make it with TopicService/CreateTopic`;
  return rejection('TOPIC_NOT_FOUND', message, topic);
}

export function topicExists(fields: FieldsOf<'TOPIC_EXISTS'>): RejectionOf<'TOPIC_EXISTS'> {
  return rejection('TOPIC_EXISTS', `there is a topic "${fields.topic}" already`, fields);
}

/** `partitions`: the number of partitions of the topic. */
export function partitionsCannotShrink(
  fields: FieldsOf<'PARTITIONS_CANNOT_SHRINK'>,
): RejectionOf<'PARTITIONS_CANNOT_SHRINK'> {
  const message = `topic "${fields.topic}" has ${fields.partitions} partitions: there can be more of them, not fewer`;
  return rejection('PARTITIONS_CANNOT_SHRINK', message, fields);
}

/** `partitions` or `lanes`: the number that exist, of the kind that the caller named too high. */
export function partitionOutOfRange(
  named: { readonly topic: string } & (
    | { readonly partitions: number; readonly partition: number }
    | { readonly lanes: number; readonly lane: number | null }
  ),
): RejectionOf<'PARTITION_OUT_OF_RANGE'> {
  const { topic } = named;
  if ('partitions' in named) {
    const { partitions, partition } = named;
    const message = `topic "${topic}" has partitions 0 to ${partitions - 1}, not ${partition}`;
    return rejection('PARTITION_OUT_OF_RANGE', message, { topic, partitions, lanes: null });
  }
  const { lanes, lane } = named;
  const message = `each partition of topic "${topic}" has lanes 0 to ${lanes - 1}, not ${lane}`;
  return rejection('PARTITION_OUT_OF_RANGE', message, { topic, partitions: null, lanes });
}

/** `missing`: who must name the lane, an entry of the request or the member in all its acks. */
export function laneRequired({
  topic,
  lanes,
  missing,
}: FieldsOf<'LANE_REQUIRED'> & { readonly missing: 'ENTRY' | 'MEMBER' }): RejectionOf<'LANE_REQUIRED'> {
  const remedy =
    missing === 'ENTRY'
      ? 'name the lane'
      : 'hand the lane of a batch back in acks, and say with lanes = true that you do';
  return rejection('LANE_REQUIRED', `each partition of topic "${topic}" has ${lanes} lanes: ${remedy}`, {
    topic,
    lanes,
  });
}

export function offsetOutOfRange({
  offset,
  ...fields
}: FieldsOf<'OFFSET_OUT_OF_RANGE'> & { readonly offset: number }): RejectionOf<'OFFSET_OUT_OF_RANGE'> {
  const { topic, partition, logStartOffset, highWatermark } = fields;
  const message = `partition ${partition} of topic "${topic}" has offsets ${logStartOffset} to its end at ${highWatermark}, not ${offset}`;
  return rejection('OFFSET_OUT_OF_RANGE', message, fields);
}

export function recordTooLargeInJson(
  fields: FieldsOf<'RECORD_TOO_LARGE_IN_JSON'>,
): RejectionOf<'RECORD_TOO_LARGE_IN_JSON'> {
  const { topic, partition, offset } = fields;
  const message = `record ${offset} of partition ${partition} of topic "${topic}" is too large for an answer in JSON: read it in protobuf`;
  return rejection('RECORD_TOO_LARGE_IN_JSON', message, fields);
}
