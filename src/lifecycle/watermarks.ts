import type { Topic } from '../log/topic.ts';
import { raised } from '../retention/watermark.ts';
import type { BackgroundJob } from '../time/background-job.ts';
import type { Clock } from '../time/clock.ts';
import { Every } from '../time/every.ts';
import type { MovedWatermarks, RetentionStore, StoredFacts } from './store.ts';

const saveIntervalMs = 15_000;
/** No topic has more than one lane yet. */
const lane = 0;

interface WatermarksDeps {
  readonly store: Pick<RetentionStore, 'saveWatermarks' | 'loadWatermarks'>;
  readonly topic: (topicId: number) => Topic | undefined;
  readonly clock: Clock;
  /** Called with a topic whose watermarks need new facts. */
  readonly onRefused: (topicId: number) => void;
  readonly onFailed: (error: unknown) => void;
}

/**
 * The watermarks of all topics. One is shown only once it is stored, or a reset into the past would
 * take it back after a takeover. All that moved are stored together.
 */
export class Watermarks implements BackgroundJob {
  readonly #d: WatermarksDeps;
  readonly #saving: Every;
  readonly #moved = new Map<number, MovedWatermarks>();

  constructor(deps: WatermarksDeps) {
    this.#d = deps;
    this.#saving = new Every({
      clock: deps.clock,
      delayMs: saveIntervalMs,
      run: () => this.#save(),
      onError: deps.onFailed,
    });
  }

  /** Shows what is stored. @throws Fault */
  async load(): Promise<void> {
    for (const { topicId, offsets } of await this.#d.store.loadWatermarks()) this.#show(topicId, offsets);
  }

  start(): void {
    this.#saving.start();
  }

  stop(): Promise<void> {
    return this.#saving.stop();
  }

  /** Notes the watermarks by the facts of a topic, for the next save. */
  found(facts: StoredFacts): void {
    const topic = this.#d.topic(facts.topicId);
    if (topic === undefined) return;
    const { partitions } = topic;
    const folded: (number | null)[] = [];
    for (const { partition, folded: offset } of facts.watermarks) folded[partition] = offset;
    const shown = partitions.map(({ watermark }) => watermark);
    const offsets = raised(
      shown,
      folded,
      partitions.map(({ endOffset }) => endOffset),
    );
    if (offsets.some((offset, at) => offset > (shown[at] ?? 0))) {
      this.#moved.set(facts.topicId, { facts, lane, offsets });
    }
  }

  async #save(): Promise<void> {
    const moved = new Map(this.#moved);
    this.#moved.clear();
    if (moved.size === 0) return;
    try {
      for (const topicId of await this.#d.store.saveWatermarks([...moved.values()])) {
        const saved = moved.get(topicId);
        moved.delete(topicId);
        if (saved !== undefined) this.#show(topicId, saved.offsets);
      }
    } finally {
      // The topic was locked, or its claims have changed since the facts.
      for (const topicId of moved.keys()) this.#d.onRefused(topicId);
    }
  }

  #show(topicId: number, offsets: readonly number[]): void {
    const topic = this.#d.topic(topicId);
    if (topic === undefined) return;
    for (const [at, offset] of offsets.entries()) topic.partitions[at]?.raiseWatermark(offset);
  }
}
