import type { PartitionStatus } from '../delivery/ports/session.ts';
import { Fault } from '../errors/fault.ts';
import type { Log } from '../log/log.ts';
import type { Clock } from '../time/clock.ts';
import { timeUp, within } from '../time/within.ts';

/** An answer waits this long for the ages, then goes out without them. */
const waitMsMax = 1_000;

type AgedLog = Pick<Log, 'topic' | 'appendAges'>;

/**
 * Adds to each partition the age of its first un-acked record; null if it is not known in time. The
 * database computes the ages, because its clock also wrote the times. A topic costs one statement.
 */
export async function withAges(
  statuses: readonly PartitionStatus[],
  log: AgedLog,
  clock: Clock,
): Promise<PartitionStatus[]> {
  const behind = statuses.filter(({ committedOffset, highWatermark }) => committedOffset < highWatermark);
  if (behind.length === 0) return [...statuses];
  const ages = new Map<PartitionStatus, number | null>();
  const enough = new AbortController();
  const answer = await within(clock, waitMsMax, lookUp(behind, log, ages, enough.signal));
  if (answer === timeUp) enough.abort();
  return statuses.map((status) => ({ ...status, oldestUnackedAgeMs: ages.get(status) ?? null }));
}

async function lookUp(
  behind: readonly PartitionStatus[],
  log: AgedLog,
  ages: Map<PartitionStatus, number | null>,
  enough: AbortSignal,
): Promise<void> {
  for (const [topicName, ofTopic] of Map.groupBy(behind, ({ topic }) => topic)) {
    const topic = log.topic(topicName);
    if (topic === undefined) continue;
    const places = ofTopic.map(({ partition, lane, committedOffset }) => ({
      partition,
      lane,
      offset: committedOffset,
    }));
    try {
      const found = await log.appendAges(topic.id, places);
      for (const [index, status] of ofTopic.entries()) ages.set(status, found[index] ?? null);
    } catch (error) {
      if (error instanceof Fault) return;
      throw error;
    }
    if (enough.aborted) return;
  }
}
