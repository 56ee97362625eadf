import assert from 'node:assert/strict';
import type { StoredDrop } from '../../../src/lifecycle/store.ts';
import type { StoredStart, TopicRow } from '../../../src/log/store.ts';
import type { RetentionSettings } from '../../../src/retention/settings.ts';

/** What topics of tests say of their records unless they say something else. */
export const keepsForever: RetentionSettings = {
  afterCompletionMs: null,
  excusedKeepMs: 604_800_000,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: 86_400_000,
};

/** What the row of a new topic says of its records. */
export const newTopicFields = {
  retention: keepsForever,
  gapReason: 'RETENTION',
  liveSubscriptions: 0,
  segmentAgeMs: 0,
  segmentBytes: 0,
  sealedBytes: 0,
  segmentCount: 1,
} as const satisfies Partial<TopicRow>;

export const logKey = (partition: number, lane: number): string => `${partition}/${lane}`;

export interface StoredSegment {
  readonly segment: number;
  sinceMs: number;
  /** The ends of the logs when the segment began. A log without one began later, at 0. */
  readonly bases: ReadonlyMap<string, number>;
  bytes: number;
  lastAppendMs: number;
  completedAtMs: number | null;
}

/** The segments of one topic in memory, as the tables of the database have them. */
export class StoredSegments {
  #all: StoredSegment[];
  nextIsMade = false;

  constructor(segment: number, sinceMs: number) {
    this.#all = [{ segment, sinceMs, bases: new Map(), bytes: 0, lastAppendMs: sinceMs, completedAtMs: null }];
  }

  get first(): StoredSegment {
    return this.#all[0]!;
  }

  get current(): StoredSegment {
    return this.#all.at(-1)!;
  }

  get sealed(): readonly StoredSegment[] {
    return this.#all.slice(0, -1);
  }

  startOf(log: string): number {
    return this.first.bases.get(log) ?? 0;
  }

  starts(partitions: number): StoredStart[] {
    return Array.from({ length: partitions }, (_, partition) => ({
      partition,
      lane: 0,
      startOffset: this.startOf(logKey(partition, 0)),
    }));
  }

  baseOf(log: string): number {
    return this.current.bases.get(log) ?? 0;
  }

  /** The segment that holds the offset of a log. */
  segmentOf(log: string, offset: number): StoredSegment {
    return this.#all.findLast(({ bases }) => (bases.get(log) ?? 0) <= offset) ?? this.first;
  }

  /** The next segment begins at the ends of the logs. */
  roll(nowMs: number, ends: ReadonlyMap<string, number>, lastAppendMs: number | null, bytes?: number): void {
    const sealed = this.current;
    if (bytes !== undefined) sealed.bytes = bytes;
    sealed.lastAppendMs = lastAppendMs ?? sealed.sinceMs;
    const segment = sealed.segment + 1;
    this.#all.push({
      segment,
      sinceMs: nowMs,
      bases: new Map(ends),
      bytes: 0,
      lastAppendMs: nowMs,
      completedAtMs: null,
    });
    this.nextIsMade = false;
  }

  /** The records of a sealed segment. */
  rangesOf(segment: number): StoredDrop['ranges'] {
    const at = this.#all.findIndex((one) => one.segment === segment);
    const next = this.#all[at + 1];
    assert(at >= 0 && next !== undefined, `segment ${segment} is sealed`);
    const ranges = Array.from(next.bases, ([log, end]) => {
      const [partition, lane] = log.split('/').map(Number) as [number, number];
      return { partition, lane, first: this.#all[at]!.bases.get(log) ?? 0, last: end - 1 };
    });
    return ranges
      .filter(({ first, last }) => first <= last)
      .sort((a, b) => a.partition - b.partition || a.lane - b.lane);
  }

  /** Removes all segments up to this one. */
  dropTo(segment: number): void {
    assert(segment < this.current.segment, 'the current segment never goes');
    this.#all = this.#all.filter((one) => one.segment > segment);
  }

  sizes(nowMs: number): Pick<TopicRow, 'segment' | 'segmentAgeMs' | 'segmentBytes' | 'sealedBytes' | 'segmentCount'> {
    const { segment, sinceMs, bytes } = this.current;
    const sealedBytes = this.sealed.reduce((sum, one) => sum + one.bytes, 0);
    return { segment, segmentAgeMs: nowMs - sinceMs, segmentBytes: bytes, sealedBytes, segmentCount: this.#all.length };
  }
}
