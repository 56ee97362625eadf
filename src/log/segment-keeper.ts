import { limits } from '../limits/limits.ts';
import { segmentAgeMs } from '../retention/settings.ts';
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
/** Idle topics that one interval looks at: 5 a second. */
const idleLooksMax = 50;
/** The stored bytes of a current segment are at most this part of the maximum out of date. */
const savedPart = 1 / 16;

export interface SegmentLimits {
  readonly bytesMax: number;
  readonly ageMsMin: number;
  readonly ageMsMax: number;
}

export const segmentLimits: SegmentLimits = {
  bytesMax: limits.segmentBytesMax,
  ageMsMin: limits.segmentAgeMsMin,
  ageMsMax: limits.segmentAgeMsMax,
};

/** Runs `work` while no append to the topic is in flight. */
type WhileQuiet = <T>(topic: Topic, work: () => Promise<T>) => Promise<T>;

interface SegmentKeeperDeps {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly topics: () => Iterable<Topic>;
  readonly whileQuiet: WhileQuiet;
  readonly limits?: SegmentLimits;
  /** Called when the topic has a new segment. */
  readonly onRolled?: (topicId: number) => void;
}

/**
 * Begins a new segment when the current one is large or old, so that retention can drop whole
 * tables. The next segment is made early, because an ANALYZE of the database may delay the
 * attachment of its table for minutes. Appends go to the current segment until then.
 *
 * Every 10 s the keeper measures the segments of topics that had appends. It measures at once when
 * the last size plus the bytes appended since, uncompressed, would reach the next step. Topics
 * without appends come after these, one by one, when their segment is old: its records could not go
 * otherwise. A segment without records is never ended, so an idle topic gets one more table once.
 */
export class SegmentKeeper implements BackgroundJob {
  readonly #d: SegmentKeeperDeps;
  readonly #loop: Every;
  readonly #looks = new Once<Topic, void>();
  /** Topics whose last check failed. They wait for the next interval, not for the next append. */
  readonly #failed = new Set<Topic>();
  readonly #limits: SegmentLimits;
  /** The looks at idle topics, one after the other. */
  #idle: Promise<void> = Promise.resolve();
  #idleIsUnderWay = false;
  #stopped = false;

  constructor(deps: SegmentKeeperDeps) {
    this.#d = deps;
    this.#limits = deps.limits ?? segmentLimits;
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
    await this.#idle;
    await this.#looks.ended();
  }

  appended(topic: Topic, bytes: number): void {
    topic.appendedBytes += bytes;
    const step = this.#limits.bytesMax * (topic.nextIsMade ? 1 : aheadFrom);
    if (topic.segmentBytes + topic.appendedBytes >= step && !this.#failed.has(topic)) void this.#look(topic);
  }

  /** Checks all topics side by side, because the table of one may take minutes to make. */
  #lookAtAll(): void {
    this.#failed.clear();
    const idle: Topic[] = [];
    for (const topic of this.#d.topics()) {
      if (topic.appendedBytes > 0) void this.#look(topic);
      else if (idle.length < idleLooksMax && this.#isOld(topic)) idle.push(topic);
    }
    if (this.#idleIsUnderWay || idle.length === 0) return;
    this.#idleIsUnderWay = true;
    this.#idle = this.#lookAtIdle(idle);
  }

  async #lookAtIdle(topics: readonly Topic[]): Promise<void> {
    for (const topic of topics) if (this.#isOld(topic)) await this.#look(topic);
    this.#idleIsUnderWay = false;
  }

  /**
   * Whether an idle topic needs its next segment by now. Where everything is kept for ever, a new
   * segment lets nothing go.
   */
  #isOld(topic: Topic): boolean {
    const { afterCompletionMs, maxAgeMs } = topic.row.retention;
    if (!topic.hasData || (afterCompletionMs === null && maxAgeMs === null)) return false;
    const ageMs = this.#d.clock.nowMs() - topic.segmentBeganMs;
    return ageMs >= this.#ageMsMax(topic) * (topic.nextIsMade ? 1 : aheadFrom);
  }

  #ageMsMax({ row: { retention }, live }: Topic): number {
    return segmentAgeMs(retention, live > 0, { min: this.#limits.ageMsMin, max: this.#limits.ageMsMax });
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
    const { store, clock } = this.#d;
    const appended = topic.appendedBytes;
    const { bytes, ageMs, nextIsMade, hasData } = await store.segmentSize(row.id, segment);
    // An append during the measurement may not be in it.
    if (!hasData && topic.appendedBytes === appended) topic.hasData = false;
    const grown = bytes - topic.savedBytes;
    topic.segmentBytes = bytes;
    topic.segmentBeganMs = clock.nowMs() - ageMs;
    topic.nextIsMade = nextIsMade;
    const part = Math.max(bytes / this.#limits.bytesMax, hasData ? ageMs / this.#ageMsMax(topic) : 0);
    if (this.#stopped || topic.removed) return;
    if (part < 1 && grown >= this.#limits.bytesMax * savedPart) {
      await store.saveSegmentBytes(row.id, segment, bytes);
      topic.savedBytes = bytes;
    }
    if (part < aheadFrom) return;
    if (!nextIsMade) await this.#make(topic, segment);
    if (part >= 1) await this.#roll(topic, bytes);
  }

  async #make(topic: Topic, segment: number): Promise<void> {
    topic.wantsNext = true;
    await this.#d.store.makeSegment(topic.row.id, segment);
    topic.wantsNext = false;
    topic.nextIsMade = true;
  }

  async #roll(topic: Topic, bytes: number): Promise<void> {
    const { store, clock, whileQuiet, log, onRolled } = this.#d;
    const { row, segment } = topic;
    await whileQuiet(topic, async () => {
      topic.began(await store.rollSegment(row.id, segment, bytes), bytes, clock.nowMs());
    });
    log.info({ topic: row.name, segment: topic.segment, bytes }, 'a new segment begins');
    onRolled?.(row.id);
  }
}
