/** What a topic says about its records. All durations are in milliseconds. */
export interface RetentionSettings {
  /** How long complete records are kept; null: for ever. */
  readonly afterCompletionMs: number | null;
  /** How long records that only DEAD subscriptions are owed are kept after their death. */
  readonly excusedKeepMs: number;
  /** Records older than this go, owed or not; null: off. */
  readonly maxAgeMs: number | null;
  /** While the topic keeps more bytes, its oldest segment goes, owed or not; null: off. */
  readonly maxBytes: number | null;
  /** How long records are kept while nobody is subscribed; null: publishes are refused then. */
  readonly keepUnsubscribedMs: number | null;
}

/** How long what a DEAD subscription is owed is kept: never shorter than complete records. */
export function excusedMs({ excusedKeepMs, afterCompletionMs }: RetentionSettings): number {
  return afterCompletionMs === null ? Infinity : Math.max(excusedKeepMs, afterCompletionMs);
}

interface SegmentAges {
  readonly min: number;
  readonly max: number;
}

/**
 * The age at which a segment is sealed: an eighth of the shortest time that holds. The time without
 * subscriptions holds only without them, and would else make seven times as many tables.
 */
export function segmentAgeMs(settings: RetentionSettings, isSubscribed: boolean, ages: SegmentAges): number {
  const { afterCompletionMs, maxAgeMs, keepUnsubscribedMs } = settings;
  const unsubscribed = isSubscribed || afterCompletionMs === null ? null : keepUnsubscribedMs;
  const times = [afterCompletionMs, maxAgeMs, unsubscribed].filter((ms) => ms !== null);
  const eighth = Math.min(...times) / 8;
  return Math.max(ages.min, Math.min(ages.max, eighth));
}
