import type { Feed } from './feed.ts';
import type { TopicPartition } from '../ports/session.ts';

/** Logs gained and lost since the last event of the stream. Of each log the last change counts. */
export class AssignmentChanges {
  readonly #came = new Set<Feed>();
  readonly #went = new Set<Feed>();

  /** The member has got the log, or keeps one whose revocation has ended. */
  came(log: Feed): void {
    this.#went.delete(log);
    this.#came.add(log);
  }

  went(log: Feed): void {
    this.#came.delete(log);
    this.#went.add(log);
  }

  /** Takes the changes for the next event. */
  take(): { readonly came: readonly TopicPartition[]; readonly went: readonly TopicPartition[] } {
    const taken = { came: placesOf(this.#came), went: placesOf(this.#went) };
    this.#came.clear();
    this.#went.clear();
    return taken;
  }
}

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
