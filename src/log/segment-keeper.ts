import { limits } from '../limits/limits.ts';
import type { Clock } from '../time/clock.ts';
import type { LogStore } from './store.ts';
import type { Topic } from './topic.ts';

const lookIntervalMs = 10_000;

/** Does work while nothing is appended to the topic. */
type WhileQuiet = <T>(topic: Topic, work: () => Promise<T>) => Promise<T>;

interface SegmentLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/**
 * Begins a new segment where the current one has become large or old, so that retention can later drop whole tables.
 * The size is asked for when as much was appended as would fill it uncompressed, and before the first look.
 */
export class SegmentKeeper {
  readonly #store: LogStore;
  readonly #clock: Clock;
  readonly #log: SegmentLog;
  readonly #whileQuiet: WhileQuiet;
  readonly #looking = new Set<Topic>();
  #cancel: (() => void) | null = null;
  #stopped = false;

  constructor(store: LogStore, clock: Clock, log: SegmentLog, whileQuiet: WhileQuiet) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
    this.#whileQuiet = whileQuiet;
  }

  start(topics: () => Iterable<Topic>): void {
    this.#cancel = this.#clock.after(lookIntervalMs, () => {
      for (const topic of topics()) if (topic.appendedBytes > 0) void this.#look(topic);
      if (!this.#stopped) this.start(topics);
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  appended(topic: Topic, bytes: number): void {
    topic.appendedBytes += bytes;
    if (topic.segmentBytes + topic.appendedBytes >= limits.segmentBytesMax) void this.#look(topic);
  }

  async #look(topic: Topic): Promise<void> {
    if (this.#looking.has(topic) || this.#stopped || topic.removed) return;
    this.#looking.add(topic);
    try {
      const { row, segment } = topic;
      const appended = topic.appendedBytes;
      const { bytes, ageMs } = await this.#store.segmentSize(row.id, segment);
      topic.segmentBytes = bytes;
      topic.appendedBytes -= appended;
      if (bytes < limits.segmentBytesMax && ageMs < limits.segmentAgeMsMax) return;
      topic.segment = await this.#whileQuiet(topic, () => this.#store.rollSegment(row.id, segment));
      topic.segmentBytes = 0;
      this.#log.info({ topic: row.name, segment: topic.segment, bytes }, 'a new segment begins');
    } catch (error) {
      if (!this.#stopped && !topic.removed) {
        this.#log.warn({ err: error, topic: topic.row.name }, 'the size of a segment could not be looked at');
      }
    } finally {
      this.#looking.delete(topic);
    }
  }
}
