import { invalidField } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import { demandLog } from '../../log/lanes.ts';
import type { ResetOffsetsCommand, ResetTo } from '../ports/offsets.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { ConsumerGroup } from '../groups/consumer-group.ts';
import type { ActiveSubscription } from '../subscriptions/subscription.ts';
import { subscriptionNotFound } from '../../errors/rejections/groups.ts';
import { inLog } from '../subscriptions/start-position.ts';

/**
 * The logs of the named topics and partitions, or of all subscriptions. Each log comes once,
 * ordered by topic, partition and lane. @throws Rejection SUBSCRIPTION_NOT_FOUND,
 * PARTITION_OUT_OF_RANGE, LANE_REQUIRED, INVALID_FIELD
 */
export function selectedLogs(
  group: ConsumerGroup,
  { topics, partitions }: Pick<ResetOffsetsCommand, 'topics' | 'partitions'>,
): Feed[] {
  const subscription = (topic: string): ActiveSubscription => {
    const found = group.subscriptionTo(topic);
    if (found !== undefined) return found;
    throw subscriptionNotFound({ group: group.name, topic });
  };
  const selected = new Set<Feed>();
  const whole = topics.length + partitions.length === 0 ? group.subscriptions.values() : topics.map(subscription);
  for (const { logs } of whole) for (const log of logs) selected.add(log);
  for (const { topic, ...name } of partitions) {
    const { logs, lanes } = subscription(topic);
    selected.add(demandLog(topic, logs, lanes, name));
  }
  if (selected.size > limits.resetPartitionsMax) {
    throw invalidField('topics', `have ${selected.size} partitions, more than ${limits.resetPartitionsMax} at once`);
  }
  return [...selected].sort((a, b) => (a.topic === b.topic ? inTopic(a, b) : a.topic < b.topic ? -1 : 1));
}

function inTopic({ key: a }: Feed, { key: b }: Feed): number {
  return a.partition - b.partition || a.lane - b.lane;
}

/** The new offset of each log, within the log. @throws Rejection OFFSET_OUT_OF_RANGE */
export function resetTargets(to: ResetTo, logs: readonly Feed[]): Promise<number[]> {
  return Promise.all(logs.map((log) => targetOf(to, log)));
}

async function targetOf(to: ResetTo, { cursor, log }: Feed): Promise<number> {
  switch (to.type) {
    case 'earliest':
      return log.startOffset;
    case 'latest':
      return log.endOffset;
    case 'offset':
      return inLog(log, to.offset);
    case 'time':
      return log.offsetAtTime(to.timeUs);
    case 'shift':
      return Math.min(log.endOffset, Math.max(log.startOffset, cursor.committedOffset + to.by));
  }
}
