import { limits } from '../limits/limits.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Clock } from '../time/clock.ts';
import { Every } from '../time/every.ts';
import type { Logger } from '../time/logger.ts';
import { Once } from '../time/once.ts';
import type { LogStore } from './store.ts';
import type { Topic } from './topic.ts';

const lookIntervalMs = 10_000;
/** The next segment is made when the current one reaches this part of its maximum size or age. */
const aheadFrom = 0.5;

/** Runs `work` while no append to the topic is in flight. */
type WhileQuiet = <T>(topic: Topic, work: () => Promise<T>) => Promise<T>;

interface SegmentKeeperDeps {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly topics: () => Iterable<Topic>;
  readonly whileQuiet: WhileQuiet;
}

/**
 * Begins a new segment when the current one is large or old, so that retention can drop whole
 * tables. The next segment is made early, because an ANALYZE of the database may delay the
 * attachment of its table for minutes. Appends go to the current segment until then. An idle topic
 * gets no new table.
 *
 * Every 10 s the keeper measures the segments of topics that had appends. It measures at once when
 * the last size plus the bytes appended since, uncompressed, would reach the next step.
 */
export class SegmentKeeper implements BackgroundJob {
  readonly #d: SegmentKeeperDeps;
  readonly #loop: Every;
  readonly #looks = new Once<Topic, void>();
  /** Topics whose last check failed. They wait for the next interval, not for the next append. */
  readonly #failed = new Set<Topic>();
  #stopped = false;

  constructor(deps: SegmentKeeperDeps) {
    this.#d = deps;
    this.#loop = new Every({
      clock: deps.clock,
      delayMs: lookIntervalMs,
      run: () => {
        this.#lookAtAll();
      },
      onError: (error) => {
        deps.log.warn({ err: error }, 'the check of the segments failed; it will be retried');
      },
    });
  }

  start(): void {
    this.#stopped = false;
    this.#loop.start();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop.stop();
    await this.#looks.ended();
  }

  appended(topic: Topic, bytes: number): void {
    topic.appendedBytes += bytes;
    const step = limits.segmentBytesMax * (topic.nextIsMade ? 1 : aheadFrom);
    if (topic.segmentBytes + topic.appendedBytes >= step && !this.#failed.has(topic)) void this.#look(topic);
  }

  /** Checks all topics side by side, because the table of one may take minutes to make. */
  #lookAtAll(): void {
    this.#failed.clear();
    for (const topic of this.#d.topics()) if (topic.appendedBytes > 0) void this.#look(topic);
  }

  #look(topic: Topic): Promise<void> {
    if (this.#stopped || topic.removed) return Promise.resolve();
    return this.#looks.run(topic, () => this.#lookAt(topic));
  }

  async #lookAt(topic: Topic): Promise<void> {
    const appended = topic.appendedBytes;
    try {
      await this.#advance(topic);
      topic.appendedBytes -= appended;
    } catch (error) {
      this.#failed.add(topic);
      if (!this.#stopped && !topic.removed) {
        this.#d.log.warn(
          { err: error, topic: topic.row.name },
          'the next segment of a topic could not be made or begun; it will be retried',
        );
      }
    }
  }

  async #advance(topic: Topic): Promise<void> {
    const { row, segment } = topic;
    const { bytes, ageMs, nextIsMade } = await this.#d.store.segmentSize(row.id, segment);
    topic.segmentBytes = bytes;
    topic.nextIsMade = nextIsMade;
    const part = Math.max(bytes / limits.segmentBytesMax, ageMs / limits.segmentAgeMsMax);
    if (part < aheadFrom || this.#stopped || topic.removed) return;
    if (!nextIsMade) await this.#d.store.makeSegment(row.id, segment);
    topic.nextIsMade = true;
    if (part >= 1) await this.#roll(topic, bytes);
  }

  async #roll(topic: Topic, bytes: number): Promise<void> {
    const { row, segment } = topic;
    topic.segment = await this.#d.whileQuiet(topic, () => this.#d.store.rollSegment(row.id, segment));
    topic.segmentBytes = 0;
    topic.nextIsMade = false;
    this.#d.log.info({ topic: row.name, segment: topic.segment, bytes }, 'a new segment begins');
  }
}
