import type { PartitionStatus } from '../delivery/ports/session.ts';
import { Fault } from '../errors/fault.ts';
import type { Log } from '../log/log.ts';
import type { Clock } from '../time/clock.ts';
import { timeUp, within } from '../time/within.ts';

/** Ages are one detail of an answer that is there without them: a database that is busy or away does not hold it up for longer. */
const waitMsMax = 1_000;

type AgedLog = Pick<Log, 'topic' | 'appendAges'>;

/**
 * Says of each partition how long its first un-acked record has been waiting. The database is asked, one topic after the other, even for
 * what is in memory: with its own clock on both sides the answer is right whatever the broker's clock says, and a topic costs one statement.
 * What it has not said in time stays null.
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
