import { Fault } from '../errors/fault.ts';
import { Trouble } from '../errors/trouble.ts';
import type { Topic } from '../log/topic.ts';
import type { RetentionDecision } from '../retention/decision.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Clock } from '../time/clock.ts';
import { Every } from '../time/every.ts';
import type { Logger } from '../time/logger.ts';
import { Once } from '../time/once.ts';
import type { DroppedSegment, RetentionStore } from './store.ts';
import { TopicCleanup, type TopicCleaned, type TopicCleanupDeps } from './topic-cleanup.ts';
import { TopicLooks } from './topic-looks.ts';
import { Watermarks } from './watermarks.ts';

const intervalMs = 5_000;
/** Looks that begin in one interval: 20 a second. */
const looksPerInterval = 100;
const looksAtOnce = 4;
/** A look that waits for so long, as for MOVING records, gives its place to another one. */
const placeMs = 30_000;
/** Decisions that are kept for those who ask what a topic stores. */
const decisionsMax = 100;

export interface CleanerDeps extends Pick<TopicCleanupDeps, 'groups' | 'random' | 'isDiskFull'> {
  readonly store: Pick<
    RetentionStore,
    'facts' | 'plan' | 'decidedStarts' | 'firstOffsets' | 'saveWatermarks' | 'loadWatermarks'
  >;
  readonly logs: TopicCleanupDeps['logs'] & {
    topicOf(topicId: number): Topic | undefined;
    topicsAtWork(): Iterable<Topic>;
    /** Resolves when the ends of the topic's logs are known. */
    known(topicId: number): Promise<void>;
  };
  readonly clock: Clock;
  readonly log: Logger;
  /** Called after segments were dropped, whose tables have to go. */
  readonly onDropped: () => void;
}

/** What a topic stores, by a look. */
export interface TopicLook {
  /** The oldest first. The last one is the current one. */
  readonly segments: readonly {
    readonly segment: number;
    readonly bytes: number;
    readonly lastAppendMs: number | null;
    readonly completedAtMs: number | null;
    readonly isCurrent: boolean;
  }[];
  /** Why each stays, in the same order, and the subscriptions that the reasons count. */
  readonly decision: Pick<RetentionDecision, 'kept' | 'live' | 'excused'>;
  /** The number of logs of the topic. */
  readonly logs: number;
}

interface LastLook {
  readonly untilMs: number;
  readonly look: TopicLook;
}

type CleanerCounts = Record<DroppedSegment['reason'], number>;

/**
 * Drops segments whose time has come. Each topic is looked at by itself, so that the space of one
 * never waits for the groups of another.
 */
export class Cleaner implements BackgroundJob {
  readonly #d: CleanerDeps;
  readonly #looks = new TopicLooks();
  readonly #running = new Once<number, TopicCleaned | null>();
  /** When each look under way began. */
  readonly #began = new Map<number, number>();
  readonly #cleanup: TopicCleanup;
  readonly #watermarks: Watermarks;
  readonly #loop: Every;
  readonly #trouble: Trouble;
  readonly #last = new Map<number, LastLook>();
  #left = looksPerInterval;
  #ending = new AbortController();
  readonly #drops: CleanerCounts = { COMPLETED: 0, ZERO_SUBSCRIPTIONS: 0, MAX_AGE: 0, MAX_BYTES: 0 };
  readonly #droppedBytes: CleanerCounts = { COMPLETED: 0, ZERO_SUBSCRIPTIONS: 0, MAX_AGE: 0, MAX_BYTES: 0 };

  constructor(deps: CleanerDeps) {
    const { store, logs, groups, clock, random, isDiskFull, log } = deps;
    this.#d = deps;
    this.#trouble = new Trouble({ what: 'the cleanup of topics', clock, log });
    const onDropped = (topicId: number, dropped: readonly DroppedSegment[]): void => {
      this.#dropped(topicId, dropped);
    };
    this.#cleanup = new TopicCleanup({ store, logs, groups, clock, random, isDiskFull, onDropped });
    this.#watermarks = new Watermarks({
      store,
      clock,
      topic: (topicId) => logs.topicOf(topicId),
      onRefused: (topicId) => {
        this.changed(topicId);
      },
      onFailed: (error) => {
        this.#failed(error);
      },
    });
    this.#loop = new Every({
      clock,
      delayMs: intervalMs,
      run: () => {
        this.#left = looksPerInterval;
        this.#begin();
      },
      onError: (error) => {
        this.#failed(error);
      },
    });
  }

  /** Shows the watermarks that are stored; the topics must be there. @throws Fault */
  load(): Promise<void> {
    return this.#watermarks.load();
  }

  start(): void {
    if (this.#ending.signal.aborted) this.#ending = new AbortController();
    this.#watermarks.start();
    this.#loop.start();
    this.#loop.soon();
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await Promise.all([this.#loop.stop(), this.#watermarks.stop()]);
    await this.#running.ended();
    if (this.#ending.signal.aborted) this.#trouble.drop();
  }

  /** A topic that was loaded or created. */
  added({ row, segmentCount }: Topic): void {
    this.#looks.add(row.id, segmentCount > 1, this.#d.clock.nowMs());
  }

  removed(topicId: number): void {
    this.#looks.remove(topicId);
    this.#last.delete(topicId);
  }

  /** Records, cursors, claims, settings or segments of the topic have changed. */
  changed(topicId: number): void {
    this.#looks.changed(topicId, this.#d.clock.nowMs());
  }

  /** Looks at all topics with caps at once, because the disk is full. */
  freeSpace(): void {
    for (const { row } of this.#d.logs.topicsAtWork()) {
      const { maxAgeMs, maxBytes } = row.retention;
      if (maxAgeMs !== null || maxBytes !== null) this.#looks.soon(row.id, this.#d.clock.nowMs());
    }
    this.#loop.soon();
  }

  /**
   * What the topic stores, by its last look or by a new one; null if it is gone. A client cannot
   * have a topic looked at more often than the cleaner may. @throws Fault
   */
  async look(topicId: number): Promise<TopicLook | null> {
    const last = this.#last.get(topicId);
    if (last !== undefined && this.#d.clock.nowMs() < last.untilMs) return last.look;
    if (!this.#looks.has(topicId)) return null;
    const cleaned = await this.#look(topicId);
    return cleaned === null ? null : (this.#last.get(topicId)?.look ?? null);
  }

  /** For /metrics. */
  stats() {
    return { segmentDrops: { ...this.#drops }, droppedBytes: { ...this.#droppedBytes } };
  }

  #begin(): void {
    if (this.#left === 0 || !this.#loop.isStarted) return;
    const nowMs = this.#d.clock.nowMs();
    let places = looksAtOnce;
    for (const beganMs of this.#began.values()) if (nowMs - beganMs < placeMs) places -= 1;
    if (places <= 0) return;
    for (const topicId of this.#looks.due(nowMs).slice(0, Math.min(places, this.#left))) {
      this.#left -= 1;
      this.#look(topicId)
        .catch((error: unknown) => {
          this.#failed(error);
        })
        .finally(() => {
          this.#begin();
        });
    }
  }

  #look(topicId: number): Promise<TopicCleaned | null> {
    return this.#running.run(topicId, () => this.#lookAt(topicId));
  }

  async #lookAt(topicId: number): Promise<TopicCleaned | null> {
    const { clock, logs } = this.#d;
    const beganMs = clock.nowMs();
    this.#began.set(topicId, beganMs);
    this.#looks.begin(topicId);
    try {
      await logs.known(topicId);
      const cleaned = await this.#cleanup.clean(topicId, this.#ending.signal);
      this.#trouble.worked();
      if (cleaned === null) this.removed(topicId);
      else this.#seen(topicId, cleaned, clock.nowMs() - beganMs);
      return cleaned;
    } catch (error) {
      this.#looks.failed(topicId, clock.nowMs());
      throw error;
    } finally {
      this.#began.delete(topicId);
    }
  }

  #seen(topicId: number, cleaned: TopicCleaned, tookMs: number): void {
    const { facts, decision, againInMs } = cleaned;
    const nowMs = this.#d.clock.nowMs();
    const { nextLookAtMs, kept } = decision;
    const byTimeMs = nextLookAtMs === null ? Infinity : nextLookAtMs - facts.nowMs;
    const dueInMs = Math.min(byTimeMs, againInMs ?? Infinity);
    const restUntilMs = this.#looks.ended(topicId, { tookMs, nowMs, dueInMs, hasSealed: kept.length > 1 });
    if (againInMs === 0) this.#looks.soon(topicId, nowMs);
    this.#watermarks.found(facts);
    const topic = this.#d.logs.topicOf(topicId);
    if (topic !== undefined) topic.stored(facts.current, kept.slice(0, -1));
    this.#keep(topicId, { untilMs: restUntilMs, look: lookOf(cleaned, topic) });
  }

  #keep(topicId: number, last: LastLook): void {
    this.#last.delete(topicId);
    this.#last.set(topicId, last);
    const [oldest] = this.#last.keys();
    if (this.#last.size > decisionsMax && oldest !== undefined) this.#last.delete(oldest);
  }

  #dropped(topicId: number, dropped: readonly DroppedSegment[]): void {
    const topicOf = this.#d.logs.topicOf(topicId);
    for (const { reason, bytes } of dropped) {
      this.#drops[reason] += 1;
      this.#droppedBytes[reason] += bytes;
      topicOf?.dropped(reason);
    }
    const topic = topicOf?.row.name;
    const segments = dropped.map(({ segment, reason }) => `${segment} ${reason}`).join(', ');
    const bytes = dropped.reduce((sum, one) => sum + one.bytes, 0);
    this.#d.log.info({ topic, segments, bytes }, 'segments of a topic are dropped');
    this.#d.onDropped();
  }

  #failed(error: unknown): void {
    if (this.#ending.signal.aborted) return;
    if (error instanceof Fault) {
      // Another broker cleans from now on.
      if (error.kind !== 'FENCED') this.#trouble.failed(error);
    } else {
      this.#d.log.warn({ err: error }, 'a topic could not be cleaned; it is tried again');
    }
  }
}

function lookOf({ facts, decision }: TopicCleaned, topic: Topic | undefined): TopicLook {
  const { kept, live, excused } = decision;
  const first = kept[0]?.segment ?? facts.current;
  const complete = new Set(decision.complete);
  const sealed = facts.sealed
    .filter(({ segment }) => segment >= first)
    .map(({ segment, bytes, lastAppendMs, completedAtMs }) => {
      const markedMs = complete.has(segment) ? facts.nowMs : completedAtMs;
      return { segment, bytes, lastAppendMs, completedAtMs: markedMs, isCurrent: false };
    });
  // The facts have its bytes only where a cap needs them.
  const bytes = Math.max(facts.currentBytes, topic?.segmentBytes ?? 0);
  const current = { segment: facts.current, bytes, lastAppendMs: null, completedAtMs: null };
  return {
    segments: [...sealed, { ...current, isCurrent: true }],
    decision: { kept: kept.map((one) => (one.reason.type === 'CURRENT' ? { ...one, bytes } : one)), live, excused },
    logs: facts.watermarks.length,
  };
}
