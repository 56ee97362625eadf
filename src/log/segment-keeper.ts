import { limits } from '../limits/limits.ts';
import type { Clock } from '../time/clock.ts';
import type { LogStore } from './store.ts';
import type { Topic } from './topic.ts';

const lookIntervalMs = 10_000;
/** The next segment is made when so much of the current one's size or age is reached. */
const aheadFrom = 0.5;

/** Does work while nothing is appended to the topic. */
type WhileQuiet = <T>(topic: Topic, work: () => Promise<T>) => Promise<T>;

interface SegmentLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/**
 * Begins a new segment where the current one has become large or old, so that retention can later drop whole tables. The
 * next segment is made ahead, because an ANALYZE of the database may keep its table from being attached for minutes;
 * until it is made, appends go on in the current one. A topic that nothing is appended to gets no table.
 *
 * The size is asked for at the first look, and when as much was appended as would reach the next step uncompressed.
 */
export class SegmentKeeper {
  readonly #store: LogStore;
  readonly #clock: Clock;
  readonly #log: SegmentLog;
  readonly #whileQuiet: WhileQuiet;
  readonly #looking = new Set<Topic>();
  /** Topics whose last look failed: the next one is at the next interval, not at each append. */
  readonly #failed = new Set<Topic>();
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
      this.#failed.clear();
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
    const step = limits.segmentBytesMax * (topic.nextIsMade ? 1 : aheadFrom);
    if (topic.segmentBytes + topic.appendedBytes >= step && !this.#failed.has(topic)) void this.#look(topic);
  }

  async #look(topic: Topic): Promise<void> {
    if (this.#looking.has(topic) || this.#stopped || topic.removed) return;
    this.#looking.add(topic);
    const appended = topic.appendedBytes;
    try {
      await this.#advance(topic);
      topic.appendedBytes -= appended;
    } catch (error) {
      this.#failed.add(topic);
      if (!this.#stopped && !topic.removed) {
        this.#log.warn({ err: error, topic: topic.row.name }, 'the next segment of a topic could not be begun yet');
      }
    } finally {
      this.#looking.delete(topic);
    }
  }

  async #advance(topic: Topic): Promise<void> {
    const { row, segment } = topic;
    const { bytes, ageMs, nextIsMade } = await this.#store.segmentSize(row.id, segment);
    topic.segmentBytes = bytes;
    topic.nextIsMade = nextIsMade;
    const part = Math.max(bytes / limits.segmentBytesMax, ageMs / limits.segmentAgeMsMax);
    if (part < aheadFrom || this.#stopped || topic.removed) return;
    if (!nextIsMade) await this.#store.makeSegment(row.id, segment);
    topic.nextIsMade = true;
    if (part >= 1) await this.#roll(topic, bytes);
  }

  async #roll(topic: Topic, bytes: number): Promise<void> {
    const { row, segment } = topic;
    topic.segment = await this.#whileQuiet(topic, () => this.#store.rollSegment(row.id, segment));
    topic.segmentBytes = 0;
    topic.nextIsMade = false;
    this.#log.info({ topic: row.name, segment: topic.segment, bytes }, 'a new segment begins');
  }
}
