import type { Feed } from './feed.ts';
import type { TopicPartition } from '../ports/session.ts';

/**
 * The partitions of the logs, ordered by topic and partition. Lane 0 stands for a partition. An
 * event may have 100,000 partitions, so this makes no object for each, and sorts within topics
 * only.
 */
export function placesOf(logs: Iterable<Feed>): TopicPartition[] {
  const byTopic = new Map<string, TopicPartition[]>();
  for (const { place, key } of logs) {
    if (key.lane !== 0) continue;
    const places = byTopic.get(place.topic);
    if (places === undefined) byTopic.set(place.topic, [place]);
    else places.push(place);
  }
  const topics = [...byTopic].sort(([a], [b]) => (a < b ? -1 : 1));
  return topics.flatMap(([, places]) => places.sort((a, b) => a.partition - b.partition));
}
