import type { Feed } from './feed.ts';
import type { TopicPartition } from '../ports/session.ts';

/** What came to a member and went from it since its stream was told. Of each partition the last that happened counts. */
export class AssignmentChanges {
  readonly #came = new Set<Feed>();
  readonly #went = new Set<Feed>();

  /** The member has the log, or keeps one that it was to give back. */
  came(log: Feed): void {
    this.#went.delete(log);
    this.#came.add(log);
  }

  went(log: Feed): void {
    this.#came.delete(log);
    this.#went.add(log);
  }

  /** What is to be told now; nothing is left of it. */
  take(): { readonly came: readonly TopicPartition[]; readonly went: readonly TopicPartition[] } {
    const taken = { came: placesOf(this.#came), went: placesOf(this.#went) };
    this.#came.clear();
    this.#went.clear();
    return taken;
  }
}

/**
 * By topic and partition, which comes with all its lanes: lane 0 stands for it. A member may be told
 * 100,000 partitions at once, so no object is made for each, and no names are compared.
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
