import { rejection, type FieldsOf, type RejectionOf } from './rejection.ts';

/** `currentOffset`: the next offset of the partition, unlike the `expected` one. */
export function expectedOffsetMismatch({
  expected,
  ...fields
}: FieldsOf<'EXPECTED_OFFSET_MISMATCH'> & { readonly expected: number }): RejectionOf<'EXPECTED_OFFSET_MISMATCH'> {
  const { topic, partition, currentOffset } = fields;
  const message = `the next offset of partition ${partition} of topic "${topic}" is ${currentOffset}, not ${expected}`;
  return rejection('EXPECTED_OFFSET_MISMATCH', message, fields);
}

export function publishQueueFull(fields: FieldsOf<'PUBLISH_QUEUE_FULL'>): RejectionOf<'PUBLISH_QUEUE_FULL'> {
  const message = `more than ${fields.publishQueueBytesMax} bytes wait for their commit (--publish-queue-bytes-max): publish more slowly`;
  return rejection('PUBLISH_QUEUE_FULL', message, fields);
}

/** The topic refuses publishes while nobody is subscribed. */
export function noSubscriptions(fields: FieldsOf<'NO_SUBSCRIPTIONS'>): RejectionOf<'NO_SUBSCRIPTIONS'> {
  const message = `topic "${fields.topic}" refuses publishes while no subscription to it is ACTIVE or PAUSED`;
  return rejection('NO_SUBSCRIPTIONS', message, fields);
}
