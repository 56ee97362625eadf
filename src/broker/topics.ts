import type { Counted, Hold } from '../account/hold.ts';
import { weights } from '../account/weights.ts';
import { Fault } from '../errors/fault.ts';
import { partitionsCannotShrink, topicExists, topicNotFound } from '../errors/rejections/topics.ts';
import type { Log } from '../log/log.ts';
import type { PartitionLog } from '../log/partition-log.ts';
import { topicBytes as topicWeight } from '../log/topic.ts';
import type { TopicRow, TopicStore } from '../log/store.ts';
import { Backoff } from '../time/backoff.ts';
import type { Clock, Random } from '../time/clock.ts';
import { Mutex } from '../time/mutex.ts';
import type {
  AddPartitionsCommand,
  CreateTopicCommand,
  PartitionExtent,
  TopicDetails,
  TopicExtent,
  UpdateTopicCommand,
} from './commands.ts';
import { partitionInfoBytes, topicBytes } from './entry-bytes.ts';
import { firstPage, pageOf, type Page, type PageRequest } from './pages/paging.ts';

interface TopicsDeps {
  readonly store: TopicStore;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  /** Reserves memory for new partitions in all subscriptions of the topic. @throws Rejection */
  readonly reserveCursors: (topicId: number, partitions: number) => Pick<Hold, 'release'>;
  /** Called when the log has new partitions, which the subscriptions of the topic need. */
  readonly onGrown: (topicId: number) => Promise<void>;
  /** Runs the deletion of the topic's rows once its subscriptions let it; they go with it. */
  readonly whileDeleted: (topicId: number, work: () => Promise<void>) => Promise<void>;
  /** Called when the tables of a deleted topic have to go. */
  readonly onDeleted: () => void;
  /** Where topics are counted. */
  readonly account: Counted;
}

/** Creates, changes, grows and deletes topics: in the database first, then in the log. */
export class Topics {
  readonly #d: TopicsDeps;
  /**
   * The creations and deletions of a name exclude each other. A creation would otherwise find the
   * rows of a deletion under way, and teach the log a topic that is about to go.
   */
  readonly #changing = new Map<string, Mutex>();
  /** Ends pauses between tries. A start after a stop makes a new one. */
  #ending = new AbortController();

  constructor(deps: TopicsDeps) {
    this.#d = deps;
  }

  async open(): Promise<void> {
    if (this.#ending.signal.aborted) this.#ending = new AbortController();
    this.#d.log.open(await this.#d.store.loadTopics());
  }

  create(command: CreateTopicCommand): Promise<TopicDetails> {
    return this.#alone(command.name, () => this.#create(command));
  }

  async #create(command: CreateTopicCommand): Promise<TopicDetails> {
    if (this.#d.log.topic(command.name) !== undefined) throw topicExists({ topic: command.name });
    const hold = this.#d.account.hold(topicWeight(command));
    try {
      const row = await this.#d.store.createTopic(command);
      if (row === null) {
        // An earlier call created the topic, and its answer was lost. The log learns it now.
        await this.#learn(command.name);
        throw topicExists({ topic: command.name });
      }
      await this.#d.log.addTopic(row);
      return detailsOf(row);
    } finally {
      // The log counts the topic by itself.
      hold.release();
    }
  }

  /** @throws Rejection TOPIC_NOT_FOUND, Fault */
  async get(name: string, page: PageRequest): Promise<TopicExtent> {
    const row = await this.opened(name);
    const items = this.#d.log.partitionLogs(row.id);
    const keyOf = ({ address: { partition, lane } }: PartitionLog): number[] => [partition, lane];
    const partitions = pageOf({ items, keyOf, entryOf: extentOf, bytesOf: partitionInfoBytes }, page);
    return { topic: detailsOf(row), partitions };
  }

  async update({ name, ...change }: UpdateTopicCommand): Promise<TopicDetails> {
    const row = await this.#d.store.updateTopic(this.row(name).id, change);
    if (row === null) throw topicNotFound({ topic: name });
    this.#d.log.changeTopic(row);
    return detailsOf(row);
  }

  /**
   * Takes in all partitions that the database has. It may have more than the log, from a call
   * whose answer was lost; a repeated call repairs that.
   */
  async addPartitions({ name, partitions }: AddPartitionsCommand): Promise<TopicExtent> {
    const { id, partitions: known } = this.row(name);
    const added = Math.max(0, partitions - known.length);
    const hold = this.#d.account.hold(added * weights.partitionLog);
    const row = await this.#grow(id, partitions, added).finally(() => {
      hold.release();
    });
    if (row === null) throw topicNotFound({ topic: name });
    if (row.partitions.length > partitions)
      throw partitionsCannotShrink({ topic: name, partitions: row.partitions.length });
    return this.get(name, firstPage);
  }

  /** @returns null if the topic is gone. */
  async #grow(id: number, partitions: number, added: number): Promise<TopicRow | null> {
    const reserved = this.#d.reserveCursors(id, added);
    try {
      const row = await this.#d.store.addPartitions(id, partitions);
      if (row === null) return null;
      this.#d.log.growTopic(row);
      await this.#d.onGrown(row.id);
      return row;
    } finally {
      reserved.release();
    }
  }

  list(page: PageRequest): Page<TopicDetails> {
    const items = this.#d.log.topics();
    return pageOf({ items, keyOf: ({ name }) => [name], entryOf: detailsOf, bytesOf: topicBytes }, page);
  }

  /**
   * Ends publishing to the topic, then deletes it. A failed deletion is repeated until it is done,
   * because its outcome may be unknown.
   */
  delete(name: string): Promise<void> {
    return this.#alone(name, () => this.#delete(name));
  }

  async #delete(name: string): Promise<void> {
    const { id } = this.row(name);
    this.#d.log.removeTopic(id);
    await this.#d.whileDeleted(id, () => this.#deleteRows(id));
    this.#d.onDeleted();
  }

  /** null if there is no topic of this name. */
  idOf(name: string): number | null {
    return this.#d.log.topic(name)?.id ?? null;
  }

  /** The topic, once the ends of its logs are known. @throws Rejection TOPIC_NOT_FOUND, Fault */
  async opened(name: string): Promise<TopicRow> {
    await this.#d.log.untilOpen(this.row(name).id);
    // It may have been changed or deleted meanwhile.
    return this.row(name);
  }

  /** @throws Rejection TOPIC_NOT_FOUND */
  row(name: string): TopicRow {
    const row = this.#d.log.topic(name);
    if (row === undefined) throw topicNotFound({ topic: name });
    return row;
  }

  /** Ends the tries of deletions. */
  stop(): Promise<void> {
    this.#ending.abort();
    return Promise.resolve();
  }

  async #alone<T>(name: string, change: () => Promise<T>): Promise<T> {
    const mutex = this.#changing.get(name) ?? new Mutex();
    this.#changing.set(name, mutex);
    try {
      return await mutex.take(change);
    } finally {
      if (mutex.load === 0) this.#changing.delete(name);
    }
  }

  async #deleteRows(topicId: number): Promise<void> {
    const { signal } = this.#ending;
    for (const backoff = new Backoff(this.#d.clock, this.#d.random); ;) {
      try {
        await this.#d.store.deleteTopic(topicId);
        return;
      } catch (error) {
        if (!(error instanceof Fault) || error.kind === 'FENCED') throw error;
        await backoff.pause(signal);
        if (signal.aborted) throw error;
      }
    }
  }

  async #learn(name: string): Promise<void> {
    const row = (await this.#d.store.loadTopics()).find((topic) => topic.name === name);
    if (row !== undefined) await this.#d.log.addTopic(row);
  }
}

function extentOf({ address, startOffset, endOffset, watermark }: PartitionLog): PartitionExtent {
  const { partition, lane } = address;
  return { partition, lane, logStartOffset: startOffset, highWatermark: endOffset, watermark };
}

function detailsOf(row: TopicRow): TopicDetails {
  const { name, semantics, idempotencyWindowMs, description, createdAtMs, retention } = row;
  const partitions = row.partitions.length;
  return { name, semantics, partitions, idempotencyWindowMs, description, createdAtMs, retention };
}
