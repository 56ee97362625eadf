import { Cleaner } from '../../src/lifecycle/cleaner.ts';
import type { DropPlan, MovedWatermarks, Planned, StoredFacts } from '../../src/lifecycle/store.ts';
import type { StoredStart } from '../../src/log/store.ts';
import type { Topic } from '../../src/log/topic.ts';
import type { OwedClaim } from '../../src/retention/decision.ts';
import type { RetentionSettings } from '../../src/retention/settings.ts';
import { FakeClock } from '../support/fake-clock.ts';

export const hour = 3_600_000;

export const settings: RetentionSettings = {
  afterCompletionMs: hour,
  excusedKeepMs: hour,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: hour,
};

export function claim(needs: number, changes: Partial<OwedClaim> = {}): OwedClaim {
  return { subscriptionId: 1, group: 'billing', state: 'ACTIVE', claimSeq: 0, diedAtMs: null, needs, ...changes };
}

/** Facts of a topic of one partition whose segments have 60 bytes and ten records each. */
export class FactsScene {
  nowMs = 0;
  current = 1;
  settings = settings;
  claims: OwedClaim[] = [];
  folded: number | null = null;
  readonly completed = new Map<number, number>();
  first = 1;
  /** When the last record of each segment was appended; default 0. */
  readonly appendedMs = new Map<number, number>();

  facts(topicId: number): StoredFacts {
    const sealed = [];
    for (let segment = this.first; segment < this.current; segment += 1) {
      const lastAppendMs = this.appendedMs.get(segment) ?? 0;
      sealed.push({ segment, bytes: 60, lastAppendMs, completedAtMs: this.completed.get(segment) ?? null });
    }
    const { nowMs, current, claims } = this;
    const watermarks = [{ partition: 0, lane: 0, folded: this.folded }];
    return { topicId, nowMs, settings: this.settings, current, currentBytes: 60, sealed, claims, watermarks };
  }

  /** Carries a plan out. */
  plan({ drop, complete }: DropPlan): Planned {
    for (const segment of complete) this.completed.set(segment, this.nowMs);
    this.first = Math.max(this.first, ...drop.map(({ segment }) => segment + 1));
    return { dropped: drop.map((one) => ({ ...one, bytes: 60 })), starts: this.starts() };
  }

  starts(): StoredStart[] {
    return [{ partition: 0, lane: 0, startOffset: (this.first - 1) * 10 }];
  }
}

/** A cleaner over scripted facts, on a fake clock. Topics are made by `topic`. */
export class CleanerScene {
  readonly clock = new FakeClock();
  readonly scenes = new Map<number, FactsScene>();
  readonly topics = new Map<number, Topic>();
  readonly looks: number[] = [];
  readonly plans: DropPlan[] = [];
  readonly trims: { topicId: number; starts: readonly StoredStart[]; reason: string }[] = [];
  readonly saved: MovedWatermarks[][] = [];
  readonly said: string[] = [];
  /** The start of the log after the plan, and the subscriptions that it passes. */
  readonly trimmed: number[][] = [];
  folds = 0;
  droppedCalls = 0;
  isDiskFull = false;
  /** Replaced by tests: faults and waits. */
  onFacts: (topicId: number) => Promise<void> | void = () => undefined;
  onPlan: (plan: DropPlan) => Promise<'CHANGED' | 'BUSY' | null> | 'CHANGED' | 'BUSY' | null = () => null;
  afterPlan: () => void = () => undefined;
  onStarts: () => void = () => undefined;
  onFold: () => Promise<void> | void = () => undefined;
  onSave: (moved: readonly MovedWatermarks[]) => readonly number[] = (moved) => moved.map(({ facts }) => facts.topicId);
  readonly cleaner: Cleaner;

  constructor() {
    const { clock } = this;
    const say = (_: object, message: string): void => void this.said.push(message);
    this.cleaner = new Cleaner({
      store: {
        facts: async (topicId) => {
          this.looks.push(topicId);
          await this.onFacts(topicId);
          return this.scenes.get(topicId)?.facts(topicId) ?? null;
        },
        plan: async (plan) => {
          this.plans.push(plan);
          const refused = await this.onPlan(plan);
          if (refused !== null) return refused;
          const planned = this.scenes.get(plan.facts.topicId)!.plan(plan);
          this.afterPlan();
          return planned;
        },
        decidedStarts: (topicId) => {
          this.onStarts();
          return Promise.resolve(this.scenes.get(topicId)!.starts());
        },
        saveWatermarks: (moved) => {
          this.saved.push([...moved]);
          return Promise.resolve(this.onSave(moved));
        },
        loadWatermarks: () => Promise.resolve([]),
        firstOffsets: (_, [segment]) => {
          return Promise.resolve(new Map([[segment!, [{ partition: 0, lane: 0, startOffset: (segment! - 1) * 10 }]]]));
        },
      },
      logs: {
        topicOf: (topicId) => this.topics.get(topicId),
        topicsAtWork: () => this.topics.values(),
        known: () => Promise.resolve(),
        trim: (topicId, starts, reason) => {
          this.trims.push({ topicId, starts, reason });
          return Promise.resolve();
        },
      },
      groups: {
        whileTrimmed: (_, starts, ids, work) => {
          this.trimmed.push([starts[0]!.startOffset, ...ids]);
          return work();
        },
        foldNow: async () => {
          this.folds += 1;
          await this.onFold();
        },
      },
      clock,
      random: { uuid: () => '', fraction: () => 0 },
      isDiskFull: () => this.isDiskFull,
      log: { info: say, warn: say },
      onDropped: () => {
        this.droppedCalls += 1;
      },
    });
  }

  /** A topic with sealed segments below `current`. */
  topic(topicId: number, current: number): FactsScene {
    const scene = new FactsScene();
    scene.current = current;
    this.scenes.set(topicId, scene);
    const partition = {
      watermark: 0,
      endOffset: current * 10,
      raiseWatermark(offset: number) {
        partition.watermark = Math.max(partition.watermark, offset);
      },
    };
    const row = { id: topicId, name: `topic-${topicId}` };
    const nothing = (): void => undefined;
    const calls = { stored: nothing, dropped: nothing };
    const topic = { row, segmentCount: current, partitions: [partition], ...calls } as unknown as Topic;
    this.topics.set(topicId, topic);
    this.cleaner.added(topic);
    return scene;
  }

  watermark(topicId: number): number {
    return this.topics.get(topicId)!.partitions[0]!.watermark;
  }

  /** The segments that were dropped of a topic, with the reasons. */
  dropped(topicId: number): string[] {
    const plans = this.plans.filter(({ facts }) => facts.topicId === topicId);
    return plans.flatMap(({ drop }) => drop.map(({ segment, reason }) => `${segment} ${reason}`));
  }
}
