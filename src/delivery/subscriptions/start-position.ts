import type { Rejection } from '../../errors/rejections/rejection.ts';
import { invalidField } from '../../errors/rejections/requests.ts';
import { laneRequired, offsetOutOfRange } from '../../errors/rejections/topics.ts';
import { namedLog, type LogName } from '../../log/lanes.ts';
import type { PartitionLog } from '../../log/partition-log.ts';
import type { StartPosition } from '../ports/subscriptions.ts';

/**
 * The offset at which a new subscription begins in each log of the topic, in their order. `latest`
 * is the end of the log at the time of the call, so the group gets all records published
 * afterwards.
 */
export async function startOffsets(
  start: StartPosition,
  logs: readonly PartitionLog[],
  lanes: number,
): Promise<number[]> {
  switch (start.type) {
    case 'earliest':
      return logs.map((log) => log.startOffset);
    case 'latest':
      return logs.map((log) => log.endOffset);
    case 'time':
      return Promise.all(logs.map((log) => log.offsetAtTime(start.timeUs)));
    case 'offsets':
      return givenOffsets(start, logs, lanes);
  }
}

function givenOffsets(
  start: Extract<StartPosition, { type: 'offsets' }>,
  logs: readonly PartitionLog[],
  lanes: number,
): number[] {
  const given = new Map<PartitionLog, number>();
  for (const [index, { offset, ...name }] of start.partitions.entries()) {
    const log = namedLog(logs, lanes, name);
    if (log === 'LANE_REQUIRED')
      throw laneRequired({ topic: logs[0]?.address.topicName ?? '', lanes, missing: 'ENTRY' });
    if (log === undefined) throw noSuchLog(`start.offset.partitions[${index}]`, logs.length / lanes, name);
    given.set(log, offset);
  }
  return logs.map((log) => stored(log, given.get(log) ?? start.offset ?? log.startOffset));
}

/** @param field the path of the entry in the request. */
function noSuchLog(field: string, partitions: number, { partition, lane }: LogName): Rejection {
  if (partition >= partitions) return invalidField(`${field}.partition`, `the topic has no partition ${partition}`);
  return invalidField(`${field}.lane`, `the topic has no lane ${lane}`);
}

/** The offset. @throws Rejection OFFSET_OUT_OF_RANGE outside of the log */
function stored(log: PartitionLog, offset: number): number {
  if (offset < log.startOffset) throw outOfRange(log, offset);
  return inLog(log, offset);
}

/**
 * The offset, or the first stored one if it is higher.
 * @throws Rejection OFFSET_OUT_OF_RANGE beyond the end of the log
 */
export function inLog(log: PartitionLog, offset: number): number {
  if (offset <= log.endOffset) return Math.max(offset, log.startOffset);
  throw outOfRange(log, offset);
}

function outOfRange({ address, startOffset, endOffset }: PartitionLog, offset: number): Rejection {
  const { topicName: topic, partition } = address;
  return offsetOutOfRange({ topic, partition, logStartOffset: startOffset, highWatermark: endOffset, offset });
}
