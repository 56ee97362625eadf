import { invalidField, Rejection } from '../errors/rejection.ts';
import type { PartitionLog } from '../log/partition-log.ts';
import type { StartPosition } from './calls.ts';

/**
 * The offset at which a new subscription begins in each of the topic's partitions. Latest is the end at this moment:
 * what is published afterwards is owed, so no message can be owed and lie below the start.
 */
export async function startOffsets(start: StartPosition, logs: readonly PartitionLog[]): Promise<number[]> {
  switch (start.type) {
    case 'earliest':
      return logs.map((log) => log.startOffset);
    case 'latest':
      return logs.map((log) => log.endOffset);
    case 'time':
      return Promise.all(logs.map((log) => log.offsetAtTime(start.timeUs)));
    case 'offsets':
      return givenOffsets(start, logs);
  }
}

function givenOffsets(start: Extract<StartPosition, { type: 'offsets' }>, logs: readonly PartitionLog[]): number[] {
  const offsets = logs.map(() => start.offset ?? 0);
  for (const [index, { partition, offset }] of start.partitions.entries()) {
    if (logs[partition] === undefined) {
      throw invalidField(`start.offset.partitions[${index}].partition`, `the topic has no partition ${partition}`);
    }
    offsets[partition] = offset;
  }
  return logs.map((log, partition) => inLog(log, offsets[partition] ?? 0));
}

/**
 * The offset as a place to begin: what lies before the first stored record has been dropped; beyond the end there is nothing that
 * could be owed. @throws Rejection OFFSET_OUT_OF_RANGE
 */
export function inLog(log: PartitionLog, offset: number): number {
  if (offset <= log.endOffset) return Math.max(offset, log.startOffset);
  const { topicName, partition } = log.address;
  throw new Rejection(
    'OFFSET_OUT_OF_RANGE',
    `offset ${offset} is beyond the end (${log.endOffset}) of partition ${partition} of topic "${topicName}"`,
    { metadata: { topic: topicName, partition: String(partition), highWatermark: String(log.endOffset) } },
  );
}
