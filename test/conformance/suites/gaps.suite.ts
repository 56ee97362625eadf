import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import type { CursorJump, CursorKey } from '../../../src/delivery/ports/store.ts';
import type { LogGap } from '../../../src/retention/gap.ts';
import { cancelIn, createIn } from '../../support/groups/group-writes.ts';
import { startsAt } from '../../support/starts.ts';
import { keysOf, newGroup, newTopic, readAckLog, type Stores, type StoreSite } from '../site.ts';

const gap = (first: number, last: number, reason: LogGap['reason'] = 'MAX_AGE'): LogGap => ({ first, last, reason });

/** The gaps of cursors, as every GroupStore keeps them. */
export function describeGaps(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;
  /** The keys of three cursors at offset 10. */
  let keys: CursorKey[];

  beforeAll(async () => {
    site = await open();
  });

  beforeEach(async () => {
    stores = await site.own();
    keys = await newCursors();
  });

  afterAll(() => site.close());

  async function newCursors(): Promise<CursorKey[]> {
    const { id: topicId } = await newTopic(stores, 3);
    const { id: groupId } = await newGroup(stores);
    const [subscription] = await createIn(stores.groups, [{ groupId, topicId, offsets: startsAt([10, 10, 10]) }]);
    return keysOf(subscription!.id, 3);
  }

  const jump = (partition: number, jumped: LogGap, resets = 0): CursorJump => {
    return { key: keys[partition]!, resets, gap: jumped };
  };

  /** The gaps of the cursors, by partition. */
  async function loaded(of: readonly CursorKey[] = keys): Promise<(LogGap | null)[]> {
    const stored = await stores.groups.loadGaps([of[0]!.subscriptionId]);
    expect(stored.length).toBeLessThanOrEqual(of.length);
    return of.map((key) => stored.find((one) => one.key.partition === key.partition)?.gap ?? null);
  }

  describe('the gaps of cursors', () => {
    test('a gap is joined with an untold one before, and with a told one if they touch', async () => {
      await stores.groups.saveGaps([jump(1, gap(10, 19)), jump(0, gap(10, 14))]);
      // The answer of the first was lost.
      await stores.groups.saveGaps([jump(1, gap(10, 19))]);
      await stores.groups.saveGaps([jump(0, gap(15, 29, 'MAX_BYTES')), jump(1, gap(25, 29))]);
      expect(await loaded()).toEqual([gap(10, 29, 'MAX_BYTES'), gap(10, 29), null]);
      await stores.groups.tellGaps([0, 1].map((partition) => ({ key: keys[partition]!, last: 29 })));
      await stores.groups.saveGaps([jump(0, gap(30, 34)), jump(1, gap(31, 34))]);
      expect(await loaded()).toEqual([gap(10, 34), gap(31, 34), null]);
    });

    test('a gap is told once its present end is told, and not if it has grown, was reset or is gone', async () => {
      const isTold = async () => (await stores.groups.loadGaps([keys[0]!.subscriptionId])).map((one) => one.isTold);
      await stores.groups.saveGaps([jump(0, gap(10, 19))]);
      await stores.groups.saveGaps([jump(0, gap(20, 24))]);
      await stores.groups.tellGaps([
        { key: keys[0]!, last: 19 },
        { key: keys[1]!, last: 19 },
      ]);
      expect(await isTold()).toEqual([false]);
      await stores.groups.tellGaps([{ key: keys[0]!, last: 24 }]);
      expect(await isTold()).toEqual([true]);
      stores = await site.own();
      expect(await isTold()).toEqual([true]);
      await stores.groups.saveGaps([jump(0, gap(25, 29))]);
      expect(await isTold()).toEqual([false]);
      await stores.groups.tellGaps([]);
    });

    test('a gap that is stored again from an earlier offset begins there', async () => {
      await stores.groups.saveGaps([jump(0, gap(12, 19, 'RETENTION'))]);
      await stores.groups.saveGaps([jump(0, gap(10, 24, 'RETENTION'))]);
      expect(await loaded()).toEqual([gap(10, 24, 'RETENTION'), null, null]);
    });

    test('the next owner finds the gaps of the subscriptions that it loads, and of no others', async () => {
      const others = await newCursors();
      await stores.groups.saveGaps([jump(2, gap(10, 14)), { key: others[2]!, resets: 0, gap: gap(10, 12) }]);
      stores = await site.own();
      expect([await loaded(), await loaded(others)]).toEqual([
        [null, null, gap(10, 14)],
        [null, null, gap(10, 12)],
      ]);
      const both = await stores.groups.loadGaps([keys[0]!.subscriptionId, others[0]!.subscriptionId]);
      expect(both).toHaveLength(2);
      expect(both).toContainEqual({ key: keys[2], gap: gap(10, 14), isTold: false });
      expect(await stores.groups.loadGaps([])).toEqual([]);
    });

    test('a reset removes the gap, and one of the incarnation before is not stored', async () => {
      await stores.groups.saveGaps([jump(0, gap(10, 19)), jump(1, gap(10, 19))]);
      await stores.groups.resetCursors([{ key: keys[0]!, offset: 20, resets: 1 }]);
      await stores.groups.saveGaps([jump(0, gap(10, 24))]);
      expect(await loaded()).toEqual([null, gap(10, 19), null]);
      await stores.groups.saveGaps([jump(0, gap(20, 24), 1)]);
      expect(await loaded()).toEqual([gap(20, 24), gap(10, 19), null]);
    });

    test('no gap of a cursor is stored that is not there', async () => {
      const key = { subscriptionId: keys[0]!.subscriptionId, partition: 3, lane: 0 };
      await stores.groups.saveGaps([{ key, resets: 0, gap: gap(10, 19) }]);
      expect(await stores.groups.loadGaps([key.subscriptionId])).toEqual([]);
    });

    test('told ones that are acked behind, and those of cancelled subscriptions, are removed, and open ones are not', async () => {
      const cancelled = await newCursors();
      await stores.groups.saveGaps([
        ...[0, 1, 2].map((partition) => jump(partition, gap(10, 19))),
        { key: cancelled[0]!, resets: 0, gap: gap(10, 19) },
      ]);
      await stores.groups.tellGaps([0, 1].map((partition) => ({ key: keys[partition]!, last: 19 })));
      await readAckLog(stores);
      const folded = [21, 20, 21].map((committedOffset, at) => {
        const cursor = { resets: 0, committedOffset, acked: [], attempts: [], metadata: null };
        return { key: keys[at]!, cursor };
      });
      const ring = new AckRing();
      ring.turn();
      await stores.groups.fold(ring.current, () => folded);
      await cancelIn(stores.groups, cancelled[0]!.subscriptionId);
      await stores.retention.tidy();
      expect(await loaded()).toEqual([null, gap(10, 19), gap(10, 19)]);
      expect(await stores.groups.loadGaps([cancelled[0]!.subscriptionId])).toEqual([]);
    });

    test('a broker that was taken over stores no gap', async () => {
      const old = stores;
      stores = await site.own();
      await expect(old.groups.saveGaps([jump(0, gap(10, 19))])).rejects.toMatchObject({ kind: 'FENCED' });
      await expect(old.groups.tellGaps([{ key: keys[0]!, last: 19 }])).rejects.toMatchObject({ kind: 'FENCED' });
      expect(await loaded()).toEqual([null, null, null]);
    });
  });
}
