import { laneRequired, partitionOutOfRange } from '../errors/rejections/topics.ts';

/** What an entry of a request names: a log of a topic, by its partition and lane. `lane` null: it names none. */
export interface LogName {
  readonly partition: number;
  readonly lane: number | null;
}

/** Where a log stands among all logs of a topic with so many lanes. Whoever looks one up does it by this. */
export function placeInTopic(lanes: number, log: { readonly partition: number; readonly lane: number }): number {
  return log.partition * lanes + log.lane;
}

/** All lanes of a partition; empty if the topic has no such partition. */
export function lanesOf<L>(logs: readonly L[], lanes: number, partition: number): readonly L[] {
  const first = placeInTopic(lanes, { partition, lane: 0 });
  return logs.slice(first, first + lanes);
}

/**
 * Finds the log that is named among all logs of a topic, which stand in the order of partition and lane. A partition with one lane needs no
 * name for it. With more of them the same offset is another record in each, so nobody may guess which one is meant.
 * @returns undefined if the topic has no such partition or lane.
 */
export function namedLog<L>(
  logs: readonly L[],
  lanes: number,
  { partition, lane }: LogName,
): L | 'LANE_REQUIRED' | undefined {
  const first = logs[placeInTopic(lanes, { partition, lane: 0 })];
  if (first === undefined || lanes === 1) return (lane ?? 0) === 0 ? first : undefined;
  if (lane === null) return 'LANE_REQUIRED';
  return lane < lanes ? logs[placeInTopic(lanes, { partition, lane })] : undefined;
}

/** `namedLog` for calls that are refused as a whole. @throws Rejection LANE_REQUIRED, PARTITION_OUT_OF_RANGE */
export function demandLog<L>(topic: string, logs: readonly L[], lanes: number, name: LogName): L {
  const log = namedLog(logs, lanes, name);
  if (log === 'LANE_REQUIRED') throw laneRequired({ topic, lanes, missing: 'ENTRY' });
  const partitions = logs.length / lanes;
  const { partition, lane } = name;
  if (partition >= partitions) throw partitionOutOfRange({ topic, partitions, partition });
  if (log === undefined) throw partitionOutOfRange({ topic, lanes, lane });
  return log;
}
