import fc from 'fast-check';
import type { OwedClaim, SealedSegment, TopicFacts } from '../../src/retention/decision.ts';
import type { RetentionSettings } from '../../src/retention/settings.ts';

/** A topic, record by record, with what each subscription has done: the slow way to decide. */
export interface RecordedTopic {
  readonly nowMs: number;
  readonly settings: RetentionSettings;
  readonly segments: readonly RecordedSegment[];
  readonly subscriptions: readonly RecordedSubscription[];
}

interface RecordedSegment {
  readonly segment: number;
  readonly bytes: number;
  readonly lastAppendMs: number;
  readonly completedAtMs: number | null;
  /** The offsets of its records, by partition. */
  readonly offsets: readonly (readonly number[])[];
}

interface RecordedSubscription {
  readonly state: 'ACTIVE' | 'PAUSED' | 'DEAD' | 'CANCELLED';
  readonly diedAtMs: number;
  /** The next offset to be read, by partition; null where there is no cursor. */
  readonly committed: readonly (number | null)[];
}

const partitions = 3;
const startMs = 1_000_000;

const settings: fc.Arbitrary<RetentionSettings> = fc.record({
  afterCompletionMs: fc.option(fc.integer({ min: 60, max: 600 })),
  excusedKeepMs: fc.integer({ min: 60, max: 900 }),
  maxAgeMs: fc.option(fc.integer({ min: 60, max: 900 })),
  maxBytes: fc.option(fc.integer({ min: 100, max: 600 })),
  keepUnsubscribedMs: fc.option(fc.integer({ min: 60, max: 600 })),
});

const drawnSegment = fc.record({
  bytes: fc.integer({ min: 1, max: 200 }),
  tookMs: fc.integer({ min: 0, max: 200 }),
  completedAfterMs: fc.option(fc.integer({ min: -100, max: 300 })),
  counts: fc.tuple(...Array.from({ length: partitions }, () => fc.integer({ min: 0, max: 2 }))),
});

const drawnSubscription = fc.record({
  state: fc.constantFrom('ACTIVE', 'PAUSED', 'DEAD', 'CANCELLED'),
  diedAfterMs: fc.integer({ min: 0, max: 1_500 }),
  committed: fc.tuple(...Array.from({ length: partitions }, () => fc.option(fc.integer({ min: 0, max: 12 })))),
});

/** A topic of some segments, the last one being current, and a few subscriptions. */
export const recordedTopic: fc.Arbitrary<RecordedTopic> = fc
  .record({
    afterMs: fc.integer({ min: 0, max: 1_500 }),
    settings,
    segments: fc.array(drawnSegment, { minLength: 1, maxLength: 6 }),
    subscriptions: fc.array(drawnSubscription, { maxLength: 4 }),
  })
  .map((drawn) => {
    let atMs = startMs;
    const ends = Array.from({ length: partitions }, () => 0);
    const segments = drawn.segments.map(({ bytes, tookMs, completedAfterMs, counts }, index) => {
      atMs += tookMs;
      const offsets = counts.map((count, p) => Array.from({ length: count }, () => ends[p]!++));
      const completedAtMs = completedAfterMs === null ? null : atMs + completedAfterMs;
      return { segment: index + 1, bytes, lastAppendMs: atMs, completedAtMs, offsets };
    });
    const nowMs = atMs + drawn.afterMs;
    const subscriptions = drawn.subscriptions.map(({ state, diedAfterMs, committed }) => ({
      state,
      diedAtMs: startMs + diedAfterMs,
      committed: committed.map((offset, p) => (offset === null ? null : Math.min(offset, ends[p]!))),
    }));
    return { nowMs, settings: drawn.settings, segments, subscriptions };
  });

/** Whether a record of the segment is owed to the subscription and not done. */
function owesIn({ committed }: RecordedSubscription, { offsets }: RecordedSegment): boolean {
  return offsets.some((ofPartition, p) => ofPartition.some((offset) => offset >= (committed[p] ?? 0)));
}

/** What the database would say of the topic. */
export function factsOf({ nowMs, settings, segments, subscriptions }: RecordedTopic): TopicFacts {
  const last = segments.at(-1)!;
  const sealed: SealedSegment[] = segments.slice(0, -1);
  const claims = subscriptions.flatMap((subscription, id): OwedClaim[] => {
    const { state, diedAtMs } = subscription;
    if (state === 'CANCELLED') return [];
    const needs = segments.find((segment) => owesIn(subscription, segment))?.segment ?? last.segment;
    return [
      {
        subscriptionId: id,
        group: `g${id}`,
        state,
        claimSeq: 0,
        diedAtMs: state === 'DEAD' ? diedAtMs : null,
        needs,
      },
    ];
  });
  return { nowMs, settings, current: last.segment, currentBytes: last.bytes, sealed, claims };
}

/** The segments that may go, counted record by record, and whether a cap is why. */
export function goesByRecords(topic: RecordedTopic): { segment: number; isCapped: boolean }[] {
  const { nowMs, segments, settings } = topic;
  const going: { segment: number; isCapped: boolean }[] = [];
  for (const [index, one] of segments.slice(0, -1).entries()) {
    const bytes = segments.slice(index).reduce((sum, segment) => sum + segment.bytes, 0);
    const isOld = settings.maxAgeMs !== null && one.lastAppendMs + settings.maxAgeMs <= nowMs;
    const isCapped = isOld || (settings.maxBytes !== null && bytes > settings.maxBytes);
    const isDone = goesUncapped(topic, segments.slice(0, index + 1));
    if (!isDone && !isCapped) break;
    going.push({ segment: one.segment, isCapped: !isDone });
  }
  return going;
}

/** Whether the last of these segments may go by itself, given that the earlier ones stay or go. */
function goesUncapped(topic: RecordedTopic, upTo: readonly RecordedSegment[]): boolean {
  const { nowMs, settings } = topic;
  const { afterCompletionMs, excusedKeepMs, keepUnsubscribedMs } = settings;
  const { lastAppendMs, completedAtMs } = upTo.at(-1)!;
  const subscribed = topic.subscriptions.filter(({ state }) => state !== 'CANCELLED');
  const owed = subscribed.filter((subscription) => upTo.some((segment) => owesIn(subscription, segment)));
  if (owed.some(({ state }) => state !== 'DEAD')) return false;
  if (afterCompletionMs === null) return false;
  if (subscribed.length === 0 && keepUnsubscribedMs !== null) return nowMs - lastAppendMs >= keepUnsubscribedMs;
  const excusedMs = Math.max(excusedKeepMs, afterCompletionMs);
  if (owed.some(({ diedAtMs }) => nowMs - diedAtMs < excusedMs)) return false;
  const sinceMs = Math.max(lastAppendMs, completedAtMs ?? nowMs);
  return nowMs - sinceMs >= afterCompletionMs;
}
