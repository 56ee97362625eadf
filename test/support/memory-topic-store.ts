import { Fault } from '../../src/errors/fault.ts';
import type { NewTopic, TopicChange, TopicRow, TopicStore } from '../../src/log/store.ts';
import type { MemoryGroups } from './memory-group-store.ts';
import type { MemoryLogs } from './memory-log-store.ts';
import { logKey } from './retention/stored-segments.ts';

/** TopicStore in memory, over the logs and groups that the other stores have. */
export class MemoryTopicStore implements TopicStore {
  readonly #logs: MemoryLogs;
  readonly #groups: MemoryGroups;
  readonly #epoch: number;
  /**
   * Called after each write, before its answer: throwing here is an answer that was lost, waiting
   * one that is late.
   */
  after: (write: keyof TopicStore) => Promise<void> | void = () => undefined;

  constructor(logs: MemoryLogs, groups: MemoryGroups) {
    this.#logs = logs;
    this.#groups = groups;
    this.#epoch = logs.epoch;
    groups.hasTopic = (topicId) => logs.topics.has(topicId);
    logs.nowMs = groups.nowMs;
    logs.liveSubscriptions = (topicId) =>
      groups.subscriptions.live().filter((row) => row.topicId === topicId && row.state !== 'DEAD').length;
    groups.logStart = (topicId, partition, lane) =>
      logs.topics.get(topicId)?.segments.startOf(logKey(partition, lane)) ?? 0;
  }

  loadTopics(): Promise<TopicRow[]> {
    return Promise.resolve(Array.from(this.#logs.topics.values(), (topic) => this.#logs.rowOf(topic)));
  }

  createTopic({ name, partitions, ...rest }: NewTopic): Promise<TopicRow | null> {
    return this.#write('createTopic', () => {
      const taken = [...this.#logs.topics.values()].some(({ row }) => row.name === name);
      if (taken) return null;
      const createdAtMs = Math.floor(this.#groups.nowMs());
      const row = this.#logs.addTopic(name, partitions, { ...rest, createdAtMs });
      this.#groups.addPartitions(row.id, partitions);
      return row;
    });
  }

  updateTopic(topicId: number, { retention, ...change }: TopicChange): Promise<TopicRow | null> {
    return this.#write('updateTopic', () => {
      const topic = this.#logs.topics.get(topicId);
      if (topic === undefined) return null;
      topic.row = { ...topic.row, ...change, retention: { ...topic.row.retention, ...retention } };
      return this.#logs.rowOf(topic);
    });
  }

  addPartitions(topicId: number, count: number): Promise<TopicRow | null> {
    return this.#write('addPartitions', () => {
      if (!this.#logs.topics.has(topicId)) return null;
      const row = this.#logs.addPartitions(topicId, count);
      this.#groups.addPartitions(topicId, row.partitions.length);
      return row;
    });
  }

  deleteTopic(topicId: number): Promise<void> {
    return this.#write('deleteTopic', () => {
      this.#logs.remove(topicId);
      this.#groups.partitions.delete(topicId);
      this.#groups.remove((row) => row.topicId === topicId);
    });
  }

  async #write<T>(what: keyof TopicStore, write: () => T): Promise<T> {
    if (this.#epoch !== this.#logs.epoch) throw new Fault('FENCED', 'another broker has taken over');
    const result = write();
    await this.after(what);
    return result;
  }
}
