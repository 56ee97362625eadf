import type { GapReason } from './gap.ts';
import { excusedMs, type RetentionSettings } from './settings.ts';

/**
 * Decides which segments of a topic go, and why the others stay. The decision is pure: facts of the
 * database go in, with the time of its clock. SPEC.md beside this file has the rules.
 *
 *  1. Segments go in order, the oldest first, and the current one never goes.
 *  2. Only a cap drops what an ACTIVE or PAUSED subscription is owed.
 *  3. A DEAD subscription keeps nothing longer than its excused time, a CANCELLED one nothing.
 *  4. A topic that keeps everything loses records only to a cap.
 *  5. Time that passes keeps nothing more, and neither does a subscription that ends.
 *  6. Each segment that stays has a reason.
 */

/** A segment to which appends go no more. Times are in milliseconds since the epoch. */
export interface SealedSegment {
  readonly segment: number;
  readonly bytes: number;
  readonly lastAppendMs: number;
  /** When it was first seen complete; null if something in it was still owed. */
  readonly completedAtMs: number | null;
}

/** What a subscription that is not CANCELLED is owed, by its folded cursors. */
export interface OwedClaim {
  readonly subscriptionId: number;
  readonly group: string;
  readonly state: 'ACTIVE' | 'PAUSED' | 'DEAD';
  /** The number of its last change. A plan that was made before the change does not count. */
  readonly claimSeq: number;
  /** The time of its death, if it is DEAD. */
  readonly diedAtMs: number | null;
  /** The oldest segment in which something is owed to it; the current one if nothing sealed is. */
  readonly needs: number;
}

export interface TopicFacts {
  readonly nowMs: number;
  readonly settings: RetentionSettings;
  /** The segment to which appends go. */
  readonly current: number;
  readonly currentBytes: number;
  /** Ascending. */
  readonly sealed: readonly SealedSegment[];
  readonly claims: readonly OwedClaim[];
}

export type DropReason = 'COMPLETED' | 'ZERO_SUBSCRIPTIONS' | 'MAX_AGE' | 'MAX_BYTES';

export interface SegmentToDrop {
  readonly segment: number;
  readonly reason: DropReason;
}

/**
 * Why a segment stays. `claims`: so many of the first claims in the decision's list of this state
 * keep it. `untilMs`: when this reason ends by time alone; null if it does not.
 */
export type KeepReason =
  | { readonly type: 'SUBSCRIPTION'; readonly claims: number; readonly untilMs: null }
  | { readonly type: 'DEAD_SUBSCRIPTION'; readonly claims: number; readonly untilMs: number }
  | { readonly type: 'RETENTION' | 'ZERO_SUBSCRIPTIONS'; readonly untilMs: number }
  | { readonly type: 'KEEP_FOREVER' | 'EARLIER_SEGMENT' | 'CURRENT'; readonly untilMs: null };

export interface KeptSegment {
  readonly segment: number;
  readonly bytes: number;
  readonly reason: KeepReason;
}

export interface RetentionDecision {
  /** The oldest segments, without a hole. */
  readonly drop: readonly SegmentToDrop[];
  readonly kept: readonly KeptSegment[];
  /** Segments that stay, and are complete for the first time. */
  readonly complete: readonly number[];
  /** When time alone may change the decision; null if it cannot. */
  readonly nextLookAtMs: number | null;
  /** The ACTIVE and PAUSED claims, by the oldest segment that they need. */
  readonly live: readonly OwedClaim[];
  /** The DEAD claims whose excused time is not over, in the same order. */
  readonly excused: readonly OwedClaim[];
}

/**
 * The claims are sorted once, and those that need a segment are the first of them. A topic may have
 * 10,000 groups and 1,440 segments.
 */
export function decide(facts: TopicFacts): RetentionDecision {
  const drop: SegmentToDrop[] = [];
  const kept: KeptSegment[] = [];
  const complete: number[] = [];
  const needed = new Needed(facts);
  let nextLookAtMs: number | null = null;
  let bytes = facts.sealed.reduce((sum, sealed) => sum + sealed.bytes, facts.currentBytes);
  for (const sealed of facts.sealed) {
    needed.advance(sealed.segment);
    const keptBy = keepReason(sealed, facts, needed);
    const dropFor = keptBy === null ? naturalReason(facts) : capReason(sealed, facts, bytes);
    bytes -= sealed.bytes;
    if (kept.length === 0 && dropFor !== null) {
      drop.push({ segment: sealed.segment, reason: dropFor });
      continue;
    }
    const reason = keptBy ?? { type: 'EARLIER_SEGMENT', untilMs: null };
    if (kept.length === 0) nextLookAtMs = earliest(reason.untilMs, capAtMs(sealed, facts));
    kept.push({ segment: sealed.segment, bytes: sealed.bytes, reason });
    if (needed.liveClaims === 0 && sealed.completedAtMs === null) complete.push(sealed.segment);
  }
  kept.push({ segment: facts.current, bytes: facts.currentBytes, reason: { type: 'CURRENT', untilMs: null } });
  return { drop, kept, complete, nextLookAtMs, live: needed.live, excused: needed.excused };
}

/** The reason of the gap in cursors that the drops pass: the last cap, if there was one. */
export function gapReasonOf(drop: readonly SegmentToDrop[]): GapReason {
  const cap = drop.findLast(({ reason }) => reason === 'MAX_AGE' || reason === 'MAX_BYTES')?.reason;
  return cap === 'MAX_AGE' || cap === 'MAX_BYTES' ? cap : 'RETENTION';
}

/** The claims of a topic, walked once together with its segments. */
class Needed {
  readonly live: readonly OwedClaim[];
  readonly excused: readonly OwedClaim[];
  readonly #settings: RetentionSettings;
  /** So many claims of the two lists need the segment, or an older one. */
  liveClaims = 0;
  excusedClaims = 0;
  /** When the last of those DEAD claims is excused no more. */
  excusedUntilMs = -Infinity;

  constructor({ claims, nowMs, settings }: TopicFacts) {
    const sorted = [...claims].sort((a, b) => a.needs - b.needs);
    this.#settings = settings;
    this.live = sorted.filter(({ state }) => state !== 'DEAD');
    this.excused = sorted.filter((claim) => claim.state === 'DEAD' && nowMs < excusedUntilMs(claim, settings));
  }

  /** Goes on to a later segment. */
  advance(segment: number): void {
    while (needs(this.live[this.liveClaims], segment)) this.liveClaims += 1;
    for (let claim; needs((claim = this.excused[this.excusedClaims]), segment); this.excusedClaims += 1) {
      this.excusedUntilMs = Math.max(this.excusedUntilMs, excusedUntilMs(claim, this.#settings));
    }
  }
}

function needs(claim: OwedClaim | undefined, segment: number): claim is OwedClaim {
  return claim !== undefined && claim.needs <= segment;
}

/** Why a segment stays if no cap drops it; null if nothing keeps it. */
function keepReason(sealed: SealedSegment, { nowMs, settings, claims }: TopicFacts, needed: Needed): KeepReason | null {
  if (needed.liveClaims > 0) return { type: 'SUBSCRIPTION', claims: needed.liveClaims, untilMs: null };
  const { afterCompletionMs, keepUnsubscribedMs } = settings;
  if (afterCompletionMs === null) return { type: 'KEEP_FOREVER', untilMs: null };
  if (claims.length === 0 && keepUnsubscribedMs !== null) {
    return unlessPast('ZERO_SUBSCRIPTIONS', sealed.lastAppendMs + keepUnsubscribedMs, nowMs);
  }
  if (needed.excusedClaims > 0) {
    return { type: 'DEAD_SUBSCRIPTION', claims: needed.excusedClaims, untilMs: needed.excusedUntilMs };
  }
  const completedAtMs = sealed.completedAtMs ?? nowMs;
  const untilMs = Math.max(sealed.lastAppendMs, completedAtMs) + afterCompletionMs;
  return unlessPast('RETENTION', untilMs, nowMs);
}

function excusedUntilMs({ diedAtMs }: OwedClaim, settings: RetentionSettings): number {
  return (diedAtMs ?? Infinity) + excusedMs(settings);
}

function unlessPast(type: 'RETENTION' | 'ZERO_SUBSCRIPTIONS', untilMs: number, nowMs: number): KeepReason | null {
  return nowMs < untilMs ? { type, untilMs } : null;
}

function naturalReason({ claims, settings }: TopicFacts): DropReason {
  return claims.length === 0 && settings.keepUnsubscribedMs !== null ? 'ZERO_SUBSCRIPTIONS' : 'COMPLETED';
}

function capReason(sealed: SealedSegment, facts: TopicFacts, bytesFrom: number): DropReason | null {
  if (facts.nowMs >= (capAtMs(sealed, facts) ?? Infinity)) return 'MAX_AGE';
  return bytesFrom > (facts.settings.maxBytes ?? Infinity) ? 'MAX_BYTES' : null;
}

function capAtMs({ lastAppendMs }: SealedSegment, { settings: { maxAgeMs } }: TopicFacts): number | null {
  return maxAgeMs === null ? null : lastAppendMs + maxAgeMs;
}

function earliest(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
