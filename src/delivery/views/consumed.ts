import type { ConsumedTopic } from '../../metrics/consumption.ts';
import type { GroupModel } from '../groups/model.ts';
import type { ActiveSubscription } from '../subscriptions/subscription.ts';

/** The subscription in numbers, which are sums, so that no cursor is visited. */
export function consumedOf(group: GroupModel, subscription: ActiveSubscription, lagRecords: number): ConsumedTopic {
  const { row, topicName, consumption, logs } = subscription;
  return {
    group: group.name,
    topic: topicName,
    topicId: row.topicId,
    members: group.members.size,
    state: row.state,
    lagRecords,
    inFlightRecords: consumption.inFlightRecords,
    deliveredRecords: consumption.deliveredRecords,
    ackedRecords: consumption.ackedRecords,
    gapRecords: consumption.gapRecords,
    firstUnacked(max) {
      const places = [];
      for (const { key, cursor, log } of logs) {
        if (places.length === max) break;
        const { committedOffset: offset } = cursor;
        if (offset < log.endOffset) places.push({ partition: key.partition, lane: key.lane, offset });
      }
      return places;
    },
  };
}
