import { laneRequired, partitionOutOfRange } from '../errors/rejections/topics.ts';

/** A log as an entry of a request names it. `lane` is null if the entry has no lane. */
export interface LogName {
  readonly partition: number;
  readonly lane: number | null;
}

/** The index of a log in the list of all logs of a topic with `lanes` lanes. */
export function placeInTopic(lanes: number, log: { readonly partition: number; readonly lane: number }): number {
  return log.partition * lanes + log.lane;
}

/** The logs of all lanes of a partition; empty if the topic has no such partition. */
export function lanesOf<L>(logs: readonly L[], lanes: number, partition: number): readonly L[] {
  const first = placeInTopic(lanes, { partition, lane: 0 });
  return logs.slice(first, first + lanes);
}

/**
 * Finds a log by name. `logs` are all logs of the topic, sorted by partition and lane. A topic with
 * several lanes needs the lane, because an offset means another record in each of them.
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

/**
 * `namedLog` for calls that are rejected as a whole.
 * @throws Rejection LANE_REQUIRED, PARTITION_OUT_OF_RANGE
 */
export function demandLog<L>(topic: string, logs: readonly L[], lanes: number, name: LogName): L {
  const log = namedLog(logs, lanes, name);
  if (log === 'LANE_REQUIRED') throw laneRequired({ topic, lanes, missing: 'ENTRY' });
  const partitions = logs.length / lanes;
  const { partition, lane } = name;
  if (partition >= partitions) throw partitionOutOfRange({ topic, partitions, partition });
  if (log === undefined) throw partitionOutOfRange({ topic, lanes, lane });
  return log;
}
