import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import type { DropPlan, StoredFacts } from '../../../src/lifecycle/store.ts';
import { BelowLogStart, type TopicRow } from '../../../src/log/store.ts';
import type { DropReason } from '../../../src/retention/decision.ts';
import { property } from '../../coordinator/property.ts';
import { batch, readAll, transaction, values } from '../../log/records.ts';
import { dropAll, takeStep } from '../../support/retention/drop-all.ts';
import { keepsForever } from '../../support/retention/stored-segments.ts';
import { startsAt } from '../../support/starts.ts';
import { cursorsOf, newGroup, newTopic, type Stores, type StoreSite } from '../site.ts';

const hourMs = 3_600_000;

/** What the cleanup of logs reads and writes, as every RetentionStore does it. */
export function describeRetention(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;
  const ring = new AckRing();

  beforeAll(async () => {
    site = await open();
  });

  beforeEach(async () => {
    stores = await site.own();
    await stores.groups.readAckLog();
  });

  afterAll(() => site.close());

  /** Appends so many records to each partition. */
  async function append(topicId: number, ...counts: number[]): Promise<void> {
    const topic = await rowOf(topicId);
    const batches = counts.flatMap((count, partition) => {
      const texts = Array.from({ length: count }, (_, n) => `${partition}.${n}`);
      return count === 0 ? [] : [batch(topic, partition, values(...texts))];
    });
    await stores.commits.append(0, transaction(batches));
  }

  async function roll(topicId: number, bytes?: number): Promise<void> {
    const { segment } = await rowOf(topicId);
    await stores.log.makeSegment(topicId, segment);
    expect(await stores.log.rollSegment(topicId, segment, bytes)).toBe(segment + 1);
  }

  async function rowOf(topicId: number): Promise<TopicRow> {
    return (await stores.topics.loadTopics()).find(({ id }) => id === topicId)!;
  }

  /** A subscription of a new group. @returns its id */
  async function subscribe(topicId: number, ...offsets: number[]): Promise<number> {
    const { id: groupId } = await newGroup(stores);
    const wanted = { groupId, topicId, offsets: startsAt(offsets), deadAfterMs: null };
    const [made] = await stores.groups.createSubscriptions([wanted]);
    return made!.row.id;
  }

  async function fold(subscriptionId: number, ...offsets: number[]): Promise<void> {
    ring.turn();
    await stores.groups.fold(ring.current, () =>
      offsets.map((offset, partition) => ({ key: { subscriptionId, partition, lane: 0 }, cursor: begunAt(offset) })),
    );
  }

  async function facts(topicId: number): Promise<StoredFacts> {
    const found = await stores.retention.facts(topicId);
    expect(found).not.toBeNull();
    return found!;
  }

  function planOf(of: StoredFacts, count: number, reason: DropReason = 'COMPLETED', complete: number[] = []): DropPlan {
    const drop = of.sealed.slice(0, count).map(({ segment }) => ({ segment, reason }));
    return { facts: of, drop, complete };
  }

  const endsOf = async (topicId: number) =>
    (await stores.log.ends(topicId)).map(({ startOffset, segmentBaseOffset, endOffset }) => [
      startOffset,
      segmentBaseOffset,
      endOffset,
    ]);

  /** A topic with two partitions and three sealed segments, in which offsets end at 2, 3 and 6. */
  async function fourSegments(): Promise<TopicRow> {
    const topic = await newTopic(stores, 2);
    for (const [at, counts] of [
      [2, 1],
      [1, 0],
      [3, 2],
    ].entries()) {
      await append(topic.id, ...counts);
      await roll(topic.id, 1_000 * (at + 1));
    }
    await append(topic.id, 1, 1);
    return topic;
  }

  describe('the facts of a topic', () => {
    test('a new topic has nothing sealed, nothing owed and no folded watermark', async () => {
      const topic = await newTopic(stores, 2);
      expect(await facts(topic.id)).toMatchObject({
        topicId: topic.id,
        settings: keepsForever,
        current: 1,
        sealed: [],
        claims: [],
        watermarks: [0, 1].map((partition) => ({ partition, lane: 0, folded: null })),
      });
      expect(await stores.retention.facts(topic.id + 1_000_000)).toBeNull();
    });

    test('a cursor needs the segment that its log reads next, and a caught-up one none of the sealed', async () => {
      const topic = await fourSegments();
      const behind = await subscribe(topic.id, 0, 1);
      const middle = await subscribe(topic.id, 2, 3);
      const atEnd = await subscribe(topic.id, 7, 4);
      const needs = async () =>
        (await facts(topic.id)).claims.map(({ subscriptionId, needs: one }) => [subscriptionId, one]);
      expect(await needs()).toEqual([
        [behind, 1],
        [middle, 2],
        [atEnd, 4],
      ]);
      await fold(behind, 3, 1);
      // Partition 1 has no record in segment 2, so its next record is in segment 3.
      expect(await needs()).toEqual([
        [behind, 3],
        [middle, 2],
        [atEnd, 4],
      ]);
      expect((await facts(topic.id)).watermarks.map(({ folded }) => folded)).toEqual([2, 1]);
    });

    test('a sealed segment has its bytes and the time of its last append, not of its roll', async () => {
      const topic = await newTopic(stores, 1);
      site.pass(hourMs);
      await append(topic.id, 1);
      const appendedMs = site.nowMs;
      site.pass(hourMs);
      await roll(topic.id, 777);
      const [sealed] = (await facts(topic.id)).sealed;
      expect(sealed).toMatchObject({ segment: 1, bytes: 777, completedAtMs: null });
      expect(Math.abs(sealed!.lastAppendMs - appendedMs)).toBeLessThan(1_000);
    });

    test('each segment says where its logs begin, of as many logs as are asked for', async () => {
      const topic = await fourSegments();
      const offsets = async (logsMax: number) => {
        const found = await stores.retention.firstOffsets(topic.id, [1, 3, 4], logsMax);
        return Array.from(found, ([segment, starts]) => [segment, ...starts.map(({ startOffset }) => startOffset)]);
      };
      expect(await offsets(10)).toEqual([
        [1, 0, 0],
        [3, 3, 1],
        [4, 6, 3],
      ]);
      expect(await offsets(1)).toEqual([
        [1, 0],
        [3, 3],
        [4, 6],
      ]);
    });

    test('partitions that came later hold no segment back that was sealed before them', async () => {
      const topic = await newTopic(stores, 1);
      const subscription = await subscribe(topic.id, 0);
      await append(topic.id, 2);
      await roll(topic.id);
      await stores.topics.addPartitions(topic.id, 2);
      await append(topic.id, 1, 3);
      await roll(topic.id);
      await fold(subscription, 3, 0);
      expect((await facts(topic.id)).claims[0]!.needs).toBe(2);
      await fold(subscription, 3, 3);
      expect((await facts(topic.id)).claims[0]!.needs).toBe(3);
    });

    test('the needs of random cursors are those that a walk over all segments finds', async () => {
      const step = fc.oneof(
        fc.record({ type: fc.constant('append' as const), counts: fc.tuple(fc.nat(3), fc.nat(2)) }),
        fc.record({ type: fc.constant('roll' as const) }),
      );
      const place = fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true }));
      await fc.assert(
        fc.asyncProperty(
          fc.array(step, { minLength: 4, maxLength: 12 }),
          fc.array(place, { minLength: 1, maxLength: 4 }),
          async (steps, places) => {
            const topic = await newTopic(stores, 2);
            const [ends, bases] = [[0, 0], [[0, 0]]];
            for (const one of steps) {
              if (one.type === 'append') {
                if (one.counts[0] + one.counts[1] > 0) await append(topic.id, ...one.counts);
                for (const partition of [0, 1]) ends[partition]! += one.counts[partition]!;
              } else {
                await roll(topic.id);
                bases.push([...ends]);
              }
            }
            const cursors = places.map((at) => at.map((part, partition) => Math.round(part * ends[partition]!)));
            const needs = cursors.map((offsets) => {
              const sealed = bases.findIndex(
                (_, at) => at + 1 < bases.length && [0, 1].some((p) => offsets[p]! < bases[at + 1]![p]!),
              );
              return sealed < 0 ? bases.length : sealed + 1;
            });
            for (const offsets of cursors) await subscribe(topic.id, ...offsets);
            const found = await facts(topic.id);
            expect(found.claims.map((claim) => claim.needs)).toEqual(needs);
            expect(found.watermarks.map(({ folded }) => folded)).toEqual(
              [0, 1].map((partition) => Math.min(...cursors.map((offsets) => offsets[partition]!))),
            );
          },
        ),
        property(10),
      );
    });
  });

  describe('the plan of a drop', () => {
    test('the oldest segments go with their records, and the start of each log moves to what is left', async () => {
      const topic = await fourSegments();
      const plan = planOf(await facts(topic.id), 2);
      expect(await endsOf(topic.id)).toEqual([
        [0, 6, 7],
        [0, 3, 4],
      ]);
      const planned = await stores.retention.plan(plan);
      expect(planned).toEqual({
        dropped: [
          { segment: 1, reason: 'COMPLETED', bytes: 1_000 },
          { segment: 2, reason: 'COMPLETED', bytes: 2_000 },
        ],
        starts: [
          { partition: 0, lane: 0, startOffset: 3 },
          { partition: 1, lane: 0, startOffset: 1 },
        ],
      });
      const { starts } = planned as Exclude<typeof planned, string>;
      expect(await stores.log.starts(topic.id)).toEqual(starts);
      expect(await stores.retention.decidedStarts(topic.id)).toEqual(starts);
      for (let owner = 0; owner < 2; owner++) {
        expect(await endsOf(topic.id)).toEqual([
          [3, 6, 7],
          [1, 3, 4],
        ]);
        expect((await stores.log.endsOf([topic.id, 1_000_000])).get(topic.id)).toEqual(await stores.log.ends(topic.id));
        expect((await readAll(stores, topic, 0, 3)).map(({ offset }) => offset)).toEqual([3, 4, 5, 6]);
        const below = { topicId: topic.id, partition: 1, lane: 0, offset: 0, bytesMax: 1_000 };
        await expect(stores.log.read(below)).rejects.toBeInstanceOf(BelowLogStart);
        expect(await rowOf(topic.id)).toMatchObject({ segmentCount: 2, sealedBytes: 3_000, gapReason: 'RETENTION' });
        stores = await site.own();
      }
      expect((await facts(topic.id)).sealed.map(({ segment }) => segment)).toEqual([3]);
    });

    test('a cursor below the start needs nothing that is gone, and pins no watermark there', async () => {
      const topic = await fourSegments();
      await subscribe(topic.id, 0, 0);
      await stores.retention.plan(planOf(await facts(topic.id), 2, 'MAX_BYTES'));
      const left = await facts(topic.id);
      expect(left.claims[0]!.needs).toBe(3);
      expect(left.watermarks.map(({ folded }) => folded)).toEqual([3, 1]);
      expect((await rowOf(topic.id)).gapReason).toBe('MAX_BYTES');
    });

    test('each drop is in the audit with its records, its bytes, its reason and its time', async () => {
      const topic = await fourSegments();
      await stores.retention.plan(planOf(await facts(topic.id), 1, 'MAX_AGE'));
      const firstMs = site.nowMs;
      site.pass(hourMs);
      await stores.retention.plan(planOf(await facts(topic.id), 1, 'COMPLETED'));
      const audit = await stores.retention.audit(topic.name, 10);
      expect(audit.map(({ segment, reason, bytes, ranges }) => ({ segment, reason, bytes, ranges }))).toEqual([
        { segment: 2, reason: 'COMPLETED', bytes: 2_000, ranges: [{ partition: 0, lane: 0, first: 2, last: 2 }] },
        {
          segment: 1,
          reason: 'MAX_AGE',
          bytes: 1_000,
          ranges: [
            { partition: 0, lane: 0, first: 0, last: 1 },
            { partition: 1, lane: 0, first: 0, last: 0 },
          ],
        },
      ]);
      expect(Math.abs(audit[1]!.plannedAtMs - firstMs)).toBeLessThan(1_000);
      expect(audit[0]!.plannedAtMs - audit[1]!.plannedAtMs).toBeGreaterThanOrEqual(hourMs);
      expect(await stores.retention.audit(topic.name, 1)).toEqual([audit[0]]);
    });

    test('a plan that is older than a subscription, a cancel or a setting changes nothing', async () => {
      const topic = await fourSegments();
      const held = await subscribe(topic.id, 7, 4);
      const changes = [
        () => subscribe(topic.id, 0, 0),
        () => stores.topics.updateTopic(topic.id, { retention: { afterCompletionMs: hourMs } }),
        () => stores.topics.updateTopic(topic.id, { retention: { keepUnsubscribedMs: null } }),
      ];
      for (const change of changes) {
        const plan = planOf(await facts(topic.id), 1, 'COMPLETED', [2]);
        await change();
        expect(await stores.retention.plan(plan)).toBe('CHANGED');
      }
      expect((await facts(topic.id)).sealed).toHaveLength(3);
      expect((await facts(topic.id)).sealed.every(({ completedAtMs }) => completedAtMs === null)).toBe(true);
      expect((await facts(topic.id)).claims.map(({ subscriptionId }) => subscriptionId)).toContain(held);
    });

    test('a plan that is older than a reset into the past changes nothing, and what is owed anew is complete no more', async () => {
      const topic = await fourSegments();
      const subscriptionId = await subscribe(topic.id, 7, 4);
      await stores.retention.plan(planOf(await facts(topic.id), 0, 'COMPLETED', [1, 2, 3]));
      const before = await facts(topic.id);
      const key = { subscriptionId, partition: 0, lane: 0 };
      expect(await stores.groups.resetCursors([{ key, offset: 2, resets: 1 }])).toEqual([2]);
      expect(await stores.retention.plan(planOf(before, 3))).toBe('CHANGED');
      const { sealed, claims } = await facts(topic.id);
      expect(sealed.map(({ completedAtMs }) => completedAtMs !== null)).toEqual([true, false, false]);
      expect(claims.map(({ needs }) => needs)).toEqual([2]);
      // A repeat is no change.
      const again = await facts(topic.id);
      expect(await stores.groups.resetCursors([{ key, offset: 0, resets: 1 }])).toEqual([2]);
      expect(await stores.retention.plan(planOf(again, 1))).toMatchObject({ dropped: [{ segment: 1 }] });
    });

    test('a start and a reset below the start of a log are stored as that start', async () => {
      const topic = await fourSegments();
      await stores.retention.plan(planOf(await facts(topic.id), 2));
      const { id: groupId } = await newGroup(stores);
      const wanted = [{ groupId, topicId: topic.id, deadAfterMs: null, offsets: startsAt([0, 2]) }];
      const [made] = await stores.groups.createSubscriptions(wanted);
      expect(made!.starts.map(({ offset }) => offset)).toEqual([3, 2]);
      const keys = [0, 1].map((partition) => ({ subscriptionId: made!.row.id, partition, lane: 0 }));
      const resets = keys.map((key) => ({ key, offset: 0, resets: 1 }));
      expect(await stores.groups.resetCursors(resets)).toEqual([3, 1]);
      expect((await cursorsOf(stores, made!.row.id)).map(({ committedOffset }) => committedOffset)).toEqual([3, 1]);
    });

    test('a roll between the facts and the plan does not matter, and a repeated plan drops nothing twice', async () => {
      const topic = await fourSegments();
      const plan = planOf(await facts(topic.id), 1);
      await roll(topic.id);
      expect(await stores.retention.plan(plan)).toMatchObject({ dropped: [{ segment: 1 }] });
      expect(await stores.retention.plan(plan)).toBe('CHANGED');
      expect((await stores.retention.audit(topic.name, 10)).map(({ segment }) => segment)).toEqual([1]);
    });

    test('a segment is marked complete once, and its time stays', async () => {
      const topic = await fourSegments();
      const marks = async () => (await facts(topic.id)).sealed.map(({ completedAtMs }) => completedAtMs);
      await stores.retention.plan({ facts: await facts(topic.id), drop: [], complete: [1, 2] });
      const first = await marks();
      expect(first[2]).toBeNull();
      expect(Math.abs(first[0]! - site.nowMs)).toBeLessThan(1_000);
      site.pass(hourMs);
      await stores.retention.plan({ facts: await facts(topic.id), drop: [], complete: [1, 2, 3] });
      expect((await marks()).slice(0, 2)).toEqual(first.slice(0, 2));
      expect((await marks())[2]! - first[0]!).toBeGreaterThanOrEqual(hourMs);
    });

    test('all sealed segments may go, and the log goes on at its end', async () => {
      const topic = await fourSegments();
      await stores.retention.plan(planOf(await facts(topic.id), 3));
      expect(await endsOf(topic.id)).toEqual([
        [6, 6, 7],
        [3, 3, 4],
      ]);
      await append(topic.id, 1, 0);
      expect((await readAll(stores, topic, 0, 6)).map(({ offset }) => offset)).toEqual([6, 7]);
    });
  });

  describe('the tables of dropped segments', () => {
    test('the tables go by steps, each of which can be repeated, and then the audit is complete', async () => {
      const topic = await fourSegments();
      await stores.retention.plan(planOf(await facts(topic.id), 2));
      const ofTopic = async () => (await stores.retention.pendingDrops()).filter(({ topicId }) => topicId === topic.id);
      const pending = await ofTopic();
      expect(pending.map(({ topicName, segment }) => [topicName, segment])).toEqual([
        [topic.name, 1],
        [topic.name, 2],
      ]);
      const drop = pending[0]!;
      expect(await stores.retention.table(drop)).toMatchObject({ exists: true, attached: 'YES', blockers: [] });
      for (let repeat = 0; repeat < 2; repeat++) await stores.retention.detach(drop);
      expect(await stores.retention.table(drop)).toMatchObject({ exists: true, attached: 'NO' });
      for (let repeat = 0; repeat < 2; repeat++) await stores.retention.drop(drop, 2_000);
      expect((await stores.retention.table(drop)).exists).toBe(false);
      await takeStep(stores.retention, drop);
      expect((await ofTopic()).map(({ segment }) => segment)).toEqual([2]);
      const done = async () => (await stores.retention.audit(topic.name, 2)).map(({ doneAtMs }) => doneAtMs !== null);
      expect(await done()).toEqual([false, true]);
      await dropAll(stores.retention);
      expect(await ofTopic()).toEqual([]);
      expect(await done()).toEqual([true, true]);
      expect((await readAll(stores, topic, 0, 3)).map(({ offset }) => offset)).toEqual([3, 4, 5, 6]);
    });

    test('a deleted topic has all its segments in the audit, and its own table goes last', async () => {
      const topic = await fourSegments();
      await stores.topics.deleteTopic(topic.id);
      const pending = (await stores.retention.pendingDrops()).filter(({ topicId }) => topicId === topic.id);
      expect(pending.map(({ segment }) => segment)).toEqual([1, 2, 3, 4]);
      const audit = await stores.retention.audit(topic.name, 10);
      expect(audit.map(({ segment, reason, bytes, ranges }) => [segment, reason, bytes, ranges.length])).toEqual([
        [4, 'TOPIC_DELETED', 0, 2],
        [3, 'TOPIC_DELETED', 3_000, 2],
        [2, 'TOPIC_DELETED', 2_000, 1],
        [1, 'TOPIC_DELETED', 1_000, 2],
      ]);
      expect(audit[0]!.ranges).toEqual([
        { partition: 0, lane: 0, first: 6, last: 6 },
        { partition: 1, lane: 0, first: 3, last: 3 },
      ]);
      await dropAll(stores.retention);
      const left = (await stores.retention.pendingDrops()).filter(({ topicId }) => topicId === topic.id);
      expect(left).toEqual([]);
    });
  });

  describe('watermarks', () => {
    test('watermarks are stored, and go with their topic', async () => {
      const [topic, other] = [await fourSegments(), await fourSegments()];
      const of = async () =>
        (await stores.retention.loadWatermarks()).filter(({ topicId }) => [topic.id, other.id].includes(topicId));
      const moved = [
        { facts: await facts(topic.id), lane: 0, offsets: [3, 1] },
        { facts: await facts(other.id), lane: 0, offsets: [6, 3] },
      ];
      expect([...(await stores.retention.saveWatermarks(moved))].sort()).toEqual([topic.id, other.id].sort());
      expect(await of()).toEqual([
        { topicId: topic.id, lane: 0, offsets: [3, 1] },
        { topicId: other.id, lane: 0, offsets: [6, 3] },
      ]);
      await stores.retention.saveWatermarks([{ facts: await facts(topic.id), lane: 0, offsets: [4, 2] }]);
      await stores.topics.deleteTopic(other.id);
      expect(await of()).toEqual([{ topicId: topic.id, lane: 0, offsets: [4, 2] }]);
    });

    test('a watermark that does not know of a new claim is not stored, or it would pass what is owed now', async () => {
      const topic = await fourSegments();
      const moved = [{ facts: await facts(topic.id), lane: 0, offsets: [7, 4] }];
      await subscribe(topic.id, 0, 0);
      expect(await stores.retention.saveWatermarks(moved)).toEqual([]);
      expect((await stores.retention.loadWatermarks()).some(({ topicId }) => topicId === topic.id)).toBe(false);
    });
  });

  test('a fenced broker drops nothing and stores no watermark', async () => {
    const topic = await fourSegments();
    const plan = planOf(await facts(topic.id), 1);
    await stores.retention.plan(planOf(await facts(topic.id), 1));
    const [drop] = (await stores.retention.pendingDrops()).filter(({ topicId }) => topicId === topic.id);
    const old = stores;
    stores = await site.own();
    for (const write of [
      () => old.retention.plan(plan),
      () => old.retention.saveWatermarks([{ facts: plan.facts, lane: 0, offsets: [1, 1] }]),
      () => old.retention.done(drop!),
      () => old.retention.tidy(),
      () => old.retention.makeBallast(),
      () => old.log.saveSegmentBytes(topic.id, 4, 1),
    ]) {
      await expect(write()).rejects.toMatchObject({ kind: 'FENCED' });
    }
    expect((await facts(topic.id)).sealed.map(({ segment }) => segment)).toEqual([2, 3]);
  });

  test('the ballast can be taken, freed and taken again, and a database with space says so', async () => {
    await stores.retention.makeBallast();
    expect(await stores.retention.hasSpace()).toBe(true);
    await stores.retention.freeBallast();
    await stores.retention.makeBallast();
    await stores.retention.tidy();
  });
}
