import type { TopicLook } from '../../lifecycle/cleaner.ts';
import type { OpenDrop } from '../../lifecycle/drops.ts';
import type { BlockingSession, StoredDrop } from '../../lifecycle/store.ts';
import { limits } from '../../limits/limits.ts';
import type { KeepReason, KeptSegment, OwedClaim } from '../../retention/decision.ts';
import type { SubscriptionState } from '../../subscription/life.ts';
import { pageOf, type Page, type PageRequest } from './paging.ts';
import { keptByBytes, segmentDropBytes, storedSegmentBytes } from './storage-bytes.ts';

export type { BlockingSession, StoredDrop };

/** What a topic stores, what keeps it, and what went. */
export interface TopicStorage {
  /** With the tables of drops that are still there. */
  readonly storedBytes: number;
  readonly segments: Page<StoredSegment>;
  /** On the first page only, and so are the drops. The most bytes first. */
  readonly keptBy: readonly KeptBy[];
  /** The newest first. */
  readonly drops: readonly StoredDrop[];
}

interface LogOffset {
  readonly partition: number;
  readonly lane: number;
  readonly offset: number;
}

export interface StoredSegment {
  readonly segment: number;
  readonly bytes: number;
  /** Of the first `listedPartitionsMax` logs. */
  readonly firstOffsets: readonly LogOffset[];
  /** null without records. */
  readonly lastAppendMs: number | null;
  /** null while something in it is owed. */
  readonly completedAtMs: number | null;
  readonly isCurrent: boolean;
}

/** One reason with all that it keeps. */
export interface KeptBy {
  readonly reason: KeepReason['type'] | 'SESSION' | 'DROPPING';
  /** The subscription that needs the segments; null for other reasons. */
  readonly subscription: { readonly group: string; readonly state: SubscriptionState } | null;
  readonly bytes: number;
  readonly segments: number;
  /** When the first of the segments may go by this reason; null if no time ends it. */
  readonly untilMs: number | null;
  readonly session: BlockingSession | null;
}

/** What the cleaner knows of stored segments. */
export interface StorageSource {
  /** The last look at the topic if it is young enough, or a new one; null if the topic is gone. */
  look(topicId: number): Promise<TopicLook | null>;
  /** The first offsets of segments, of the first `listedPartitionsMax` logs of each. */
  firstOffsets(topicId: number, segments: readonly number[]): Promise<ReadonlyMap<number, readonly LogOffset[]>>;
  /** The drops of topics of that name whose tables are still there. */
  openDrops(topicName: string): Promise<readonly OpenDrop[]>;
  /** The last drops of topics of that name, the newest first. */
  audit(topicName: string, limit: number): Promise<readonly StoredDrop[]>;
}

/**
 * One page of what is stored under a name. A deleted topic has no segments, but its drops can be
 * seen while they are kept. `topicId`: null if there is no topic of this name (any more).
 * @returns null if nothing is known of the name.
 */
export async function topicStorage(
  source: StorageSource,
  topic: { readonly id: number | null; readonly name: string },
  page: PageRequest,
): Promise<TopicStorage | null> {
  const look = topic.id === null ? null : await source.look(topic.id);
  const open = await source.openDrops(topic.name);
  const isFirst = page.token === '';
  const drops = isFirst ? await source.audit(topic.name, limits.dropsListedMax) : [];
  if (look === null && drops.length === 0) return null;
  const keptBy = isFirst ? keepers(look, open) : [];
  const besideBytes = sumOf(keptBy, keptByBytes) + sumOf(drops, segmentDropBytes);
  return {
    storedBytes: sumOf(look?.segments ?? [], bytesOf) + sumOf(open, bytesOf),
    segments: await segmentsPage(source, topic.id, look, { ...page, besideBytes }),
    keptBy,
    drops,
  };
}

async function segmentsPage(
  source: StorageSource,
  topicId: number | null,
  look: TopicLook | null,
  page: PageRequest,
): Promise<Page<StoredSegment>> {
  if (topicId === null || look === null) return { items: [], nextToken: '' };
  const bytes = storedSegmentBytes(Math.min(look.logs, limits.listedPartitionsMax));
  const listing = { items: look.segments, keyOf: keyOfSegment, entryOf: itself, bytesOf: () => bytes };
  const { items, nextToken } = pageOf(listing, page);
  const numbers = items.map(({ segment }) => segment);
  const offsets = await source.firstOffsets(topicId, numbers);
  return { items: items.map((one) => ({ ...one, firstOffsets: offsets.get(one.segment) ?? [] })), nextToken };
}

type ListedSegment = TopicLook['segments'][number];

const keyOfSegment = ({ segment }: ListedSegment): number[] => [segment];
const itself = (segment: ListedSegment): ListedSegment => segment;

/** What keeps the segments of the look and the tables of open drops, the most bytes first. */
function keepers(look: TopicLook | null, open: readonly OpenDrop[]): KeptBy[] {
  const { kept, live, excused } = look?.decision ?? { kept: [], live: [], excused: [] };
  const all = [
    ...subscriptions('SUBSCRIPTION', kept, live),
    ...subscriptions('DEAD_SUBSCRIPTION', kept, excused),
    ...otherReasons(kept),
    ...openTables(open),
  ];
  return all.sort((a, b) => b.bytes - a.bytes).slice(0, limits.keptByMax);
}

/**
 * The first claims of the list keep the most segments, because it is sorted by what they need. So
 * one walk over claims and segments is enough, and later claims than the limit keep less.
 */
function subscriptions(
  type: 'SUBSCRIPTION' | 'DEAD_SUBSCRIPTION',
  kept: readonly KeptSegment[],
  claims: readonly OwedClaim[],
): KeptBy[] {
  const segments = kept.flatMap(({ bytes, reason }) => (reason.type === type ? [{ bytes, ...reason }] : []));
  let bytes = sumOf(segments, bytesOf);
  let from = 0;
  const found: KeptBy[] = [];
  for (const [index, { group, state }] of claims.slice(0, limits.keptByMax).entries()) {
    // Segments before the first that the claim needs.
    for (let first = segments[from]; first !== undefined && first.claims <= index; first = segments[++from])
      bytes -= first.bytes;
    const first = segments[from];
    if (first === undefined) break;
    const { untilMs } = first;
    const count = segments.length - from;
    found.push({ reason: type, subscription: { group, state }, bytes, segments: count, untilMs, session: null });
  }
  return found;
}

function otherReasons(kept: readonly KeptSegment[]): KeptBy[] {
  return joinedBy(
    ({ reason }) => reason,
    kept.flatMap(({ bytes, reason: { type, untilMs } }) => {
      if (type === 'SUBSCRIPTION' || type === 'DEAD_SUBSCRIPTION') return [];
      return [{ reason: type, subscription: null, bytes, segments: 1, untilMs, session: null }];
    }),
  );
}

/** A table that several sessions block counts for each of them. */
function openTables(open: readonly OpenDrop[]): KeptBy[] {
  return joinedBy(
    ({ reason, session }) => session?.pid ?? reason,
    open.flatMap(({ bytes, blockers }): KeptBy[] => {
      const table = { subscription: null, bytes, segments: 1, untilMs: null };
      if (blockers.length === 0) return [{ ...table, reason: 'DROPPING', session: null }];
      return blockers.map((session) => ({ ...table, reason: 'SESSION', session }));
    }),
  );
}

function joinedBy(keyOf: (one: KeptBy) => string | number, all: readonly KeptBy[]): KeptBy[] {
  const sums = new Map<string | number, KeptBy>();
  for (const one of all) {
    const before = sums.get(keyOf(one));
    sums.set(keyOf(one), before === undefined ? one : joined(before, one));
  }
  return [...sums.values()];
}

function joined(before: KeptBy, one: KeptBy): KeptBy {
  return {
    ...before,
    bytes: before.bytes + one.bytes,
    segments: before.segments + one.segments,
    untilMs: earlier(before.untilMs, one.untilMs),
  };
}

function earlier(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}

function bytesOf({ bytes }: { readonly bytes: number }): number {
  return bytes;
}

function sumOf<T>(items: readonly T[], numberOf: (item: T) => number): number {
  return items.reduce((sum, item) => sum + numberOf(item), 0);
}
