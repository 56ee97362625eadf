import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  topicStorage,
  type KeptBy,
  type StorageSource,
  type StoredDrop,
} from '../../../src/broker/pages/topic-storage.ts';
import type { TopicLook } from '../../../src/lifecycle/cleaner.ts';
import type { OpenDrop } from '../../../src/lifecycle/drops.ts';
import { limits } from '../../../src/limits/limits.ts';
import { decide, type OwedClaim, type RetentionDecision } from '../../../src/retention/decision.ts';

const settings = {
  afterCompletionMs: 1_000,
  excusedKeepMs: 5_000,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: 1_000,
};
const nowMs = 10_000;

const claim = (subscriptionId: number, needs: number, died = false): OwedClaim => ({
  subscriptionId,
  group: `group-${subscriptionId}`,
  state: died ? 'DEAD' : 'ACTIVE',
  claimSeq: 0,
  diedAtMs: died ? nowMs - 1 : null,
  needs,
});

interface Scene {
  /** Bytes of the segments, from 1 on; the last one is the current one. */
  readonly bytes: readonly number[];
  readonly claims: readonly OwedClaim[];
  readonly open?: readonly OpenDrop[];
  readonly drops?: readonly StoredDrop[];
  readonly logs?: number;
}

class Source implements StorageSource {
  readonly decision: RetentionDecision;
  /** Of which segments the offsets were read. */
  read: readonly number[] = [];
  readonly #scene: Scene;

  constructor(scene: Scene) {
    this.#scene = scene;
    const segments = scene.bytes.map((bytes, index) => ({ segment: index + 1, bytes }));
    const current = segments.pop()!;
    const sealed = segments.map((one) => ({ ...one, lastAppendMs: nowMs, completedAtMs: null }));
    const facts = { nowMs, settings, current: current.segment, currentBytes: current.bytes, sealed };
    this.decision = decide({ ...facts, claims: scene.claims });
  }

  look(topicId: number): Promise<TopicLook | null> {
    if (topicId === 0) return Promise.resolve(null);
    const { bytes, logs = 1 } = this.#scene;
    const segments = bytes.map((bytes, index) => {
      const isCurrent = index === this.#scene.bytes.length - 1;
      return { segment: index + 1, bytes, lastAppendMs: nowMs, completedAtMs: null, isCurrent };
    });
    return Promise.resolve({ segments, decision: this.decision, logs });
  }

  firstOffsets(_topicId: number, segments: readonly number[]): ReturnType<StorageSource['firstOffsets']> {
    this.read = segments;
    return Promise.resolve(new Map(segments.map((one) => [one, [{ partition: 0, lane: 0, offset: one * 10 }]])));
  }

  openDrops = () => Promise.resolve(this.#scene.open ?? []);
  audit = (_name: string, limit: number) => Promise.resolve((this.#scene.drops ?? []).slice(0, limit));
}

const show = (
  source: Source,
  { id, size = 100, token = '' }: { id?: number | null; size?: number; token?: string } = {},
) => topicStorage(source, { id: id === undefined ? 1 : id, name: 'orders' }, { size, token });

const drop = (segment: number, ranges = 0): StoredDrop => ({
  segment,
  reason: 'COMPLETED',
  bytes: 1,
  plannedAtMs: 0,
  doneAtMs: 0,
  ranges: Array.from({ length: ranges }, (_, partition) => ({ partition, lane: 0, first: 0, last: 9 })),
});

const session = (pid: number) => ({ pid, transactionAgeMs: 1, applicationName: 'psql', state: 'idle' });

/** What keeps a topic, found by a visit of each claim at each segment. */
function naively({ kept, live, excused }: RetentionDecision): Map<string, number[]> {
  const sums = new Map<string, number[]>();
  const add = (key: string, bytes: number): void => {
    const [sum, count] = sums.get(key) ?? [0, 0];
    sums.set(key, [sum! + bytes, count! + 1]);
  };
  for (const { bytes, reason } of kept) {
    if (!('claims' in reason)) add(reason.type, bytes);
    else {
      const list = reason.type === 'SUBSCRIPTION' ? live : excused;
      for (const { group } of list.slice(0, reason.claims)) add(`${reason.type} ${group}`, bytes);
    }
  }
  return sums;
}

const named = ({ reason, subscription }: KeptBy): string =>
  subscription === null ? reason : `${reason} ${subscription.group}`;

test('each reason counts the bytes that it keeps, as a visit of each claim at each segment would', async () => {
  const claims = fc.array(fc.record({ needs: fc.integer({ min: 1, max: 8 }), died: fc.boolean() }), { maxLength: 12 });
  const bytes = fc.array(fc.integer({ min: 0, max: 1_000 }), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(bytes, claims, async (bytes, owed) => {
      const source = new Source({ bytes, claims: owed.map(({ needs, died }, id) => claim(id, needs, died)) });
      const { keptBy } = (await show(source))!;
      const sums = new Map(keptBy.map((one) => [named(one), [one.bytes, one.segments]]));
      expect(sums).toEqual(naively(source.decision));
      expect(keptBy.map((one) => one.bytes)).toEqual(keptBy.map((one) => one.bytes).sort((a, b) => b - a));
    }),
  );
});

test('a table that is planned to go still counts as stored, with the session that blocks it', async () => {
  const open = [
    { segment: 1, bytes: 50, blockers: [session(7), session(8)] },
    { segment: 2, bytes: 30, blockers: [session(7)] },
    { segment: 3, bytes: 5, blockers: [] },
  ];
  const shown = (await show(new Source({ bytes: [10], claims: [], open })))!;
  expect(shown.storedBytes).toBe(95);
  expect(shown.keptBy).toMatchObject([
    { reason: 'SESSION', bytes: 80, segments: 2, session: { pid: 7 } },
    { reason: 'SESSION', bytes: 50, segments: 1, session: { pid: 8 } },
    { reason: 'CURRENT', bytes: 10, session: null },
    { reason: 'DROPPING', bytes: 5, session: null },
  ]);
});

describe('pages', () => {
  const wide: Scene = {
    bytes: new Array<number>(500).fill(1),
    claims: Array.from({ length: 2_000 }, (_, id) => claim(id, 1)),
    drops: Array.from({ length: 200 }, (_, segment) => drop(segment, 1_000)),
    logs: 1_000,
  };

  test('the first page has room for what keeps the segments and for the drops, and the others are full', async () => {
    const source = new Source(wide);
    const first = (await show(source, { size: 1_000 }))!;
    expect([first.keptBy.length, first.drops.length]).toEqual([limits.keptByMax, limits.dropsListedMax]);
    const count = first.segments.items.length;
    expect(count).toBeGreaterThan(0);
    const second = (await show(source, { size: 1_000, token: first.segments.nextToken }))!;
    expect([second.keptBy, second.drops]).toEqual([[], []]);
    expect(second.segments.items.length).toBeGreaterThan(count);
    expect(second.segments.items[0]!.segment).toBe(count + 1);
  });

  test('the offsets of a page are read for its segments only, or a page of 10 would read all of a topic', async () => {
    const source = new Source(wide);
    const { segments } = (await show(source, { size: 2, token: '10' }))!;
    expect(source.read).toEqual([11, 12]);
    expect(segments.items.map(({ firstOffsets }) => firstOffsets[0]!.offset)).toEqual([110, 120]);
  });
});

test('a deleted topic shows its drops while they are kept, and is unknown afterwards', async () => {
  const dropped = new Source({ bytes: [1], claims: [], drops: [drop(1)] });
  expect(await show(dropped, { id: null })).toMatchObject({ segments: { items: [] }, drops: { length: 1 } });
  expect(await show(dropped, { id: 0 })).toMatchObject({ segments: { items: [] }, drops: { length: 1 } });
  expect(await show(new Source({ bytes: [1], claims: [] }), { id: null })).toBeNull();
});
