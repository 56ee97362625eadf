import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import {
  begunAt,
  mergeDelta,
  type CursorDelta,
  type CursorSnapshot,
} from '../../../src/consumption/partitioned/cursor.ts';
import type { CursorKey, FoldResult, StoredCursor } from '../../../src/delivery/ports/store.ts';
import { property } from '../../coordinator/property.ts';
import { attemptRunsOf } from '../../consumption/partitioned/oracle.ts';
import { startsAt } from '../../support/starts.ts';
import { cursorsOf, keysOf, newGroup, newTopic, readAckLog, type Stores, type StoreSite } from '../site.ts';
import { cancelIn, createIn } from '../../support/groups/group-writes.ts';

function delta(
  committedOffset: number,
  acked: number[] = [],
  attempts: number[] = [],
  more: Partial<CursorDelta> = {},
): CursorDelta {
  return { resets: 0, committedOffset, acked, attempts, metadata: null, ...more };
}

const start = delta(10);

/** Cursors and the ack log, as every GroupStore and AckLogStore keeps them. */
export function describeCursors(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;
  let ring: AckRing;
  /** The keys of three cursors at offset 10, and their group. */
  let keys: CursorKey[];
  let groupId: number;

  beforeAll(async () => {
    site = await open();
  });

  beforeEach(async () => {
    await takeOver();
    await emptyLog();
    await subscribe();
  });

  afterAll(() => site.close());

  /** Makes a new owner, which has not loaded yet. */
  async function takeOver(): Promise<void> {
    stores = await site.own();
    ring = new AckRing();
  }

  async function subscribe(): Promise<void> {
    const topic = await newTopic(stores, 3);
    ({ id: groupId } = await newGroup(stores));
    const wanted = [{ groupId, topicId: topic.id, offsets: startsAt([10, 10, 10]) }];
    const [subscription] = await createIn(stores.groups, wanted);
    keys = keysOf(subscription!.id, 3);
  }

  async function append(...deltas: CursorDelta[]): Promise<void> {
    const named = deltas.map((one, at) => ({ key: keys[at]!, delta: one }));
    await stores.commits.appendAcks({ table: ring.current, deltas: named, receipts: [] });
  }

  function foldOf(snapshots: () => Iterable<StoredCursor>, mayGoOn?: () => boolean): Promise<FoldResult> {
    ring.turn();
    return stores.groups.fold(ring.current, snapshots, mayGoOn);
  }

  const fold = (...cursors: CursorSnapshot[]): Promise<FoldResult> =>
    foldOf(() => cursors.map((cursor, at) => ({ key: keys[at]!, cursor })));

  const loaded = (): Promise<CursorSnapshot[]> => cursorsOf(stores, keys[0]!.subscriptionId);

  /** Folds what the log still has of the predecessor. */
  async function emptyLog(): Promise<void> {
    await readAckLog(stores);
    for (let folds = 0; (await foldOf(() => [])) !== 'EMPTIED'; folds++) if (folds > 3) throw new Error('a row stays');
  }

  /** The number of rounds that a new owner finds in the log. */
  async function roundsLeft(): Promise<number> {
    await takeOver();
    return (await readAckLog(stores)).rounds;
  }

  describe('the ack log', () => {
    test('a restarted broker continues from the ack log', async () => {
      await append(delta(12, [14, 15], [13, 13, 2]), delta(11));
      await append(delta(12, [17, 20], [13, 13, 3, 16, 16, 1]));
      await takeOver();
      expect(await readAckLog(stores)).toMatchObject({ cursors: 2, rounds: 2 });
      expect(await loaded()).toEqual([delta(12, [14, 15, 17, 20], [13, 13, 3, 16, 16, 1]), delta(11), start]);
    });

    test('a delta in the ack log may come twice or late', async () => {
      await append(delta(20, [25, 26]));
      await append(delta(12, [14, 15], [13, 13, 2]));
      await append(delta(20, [25, 26]));
      expect(await loaded()).toEqual([delta(20, [25, 26]), start, start]);
    });

    test('rounds of deleted cursors change nothing', async () => {
      await append(delta(20), delta(21), delta(22));
      await cancelIn(stores.groups, keys[0]!.subscriptionId);
      expect(await loaded()).toEqual([]);
      await fold(delta(20), delta(21));
      expect(await loaded()).toEqual([]);
    });

    test('a new owner keeps what the ack log has of subscriptions that have ended', async () => {
      await append(delta(12, [14, 15]), delta(11));
      await cancelIn(stores.groups, keys[0]!.subscriptionId);
      await takeOver();
      expect(await readAckLog(stores)).toEqual({ cursors: 0, rounds: 1, sizes: [] });
    });

    test('a new owner does not know how much the ack log has of a group', async () => {
      const note = { seq: 1, text: 'né' };
      await append(delta(12, [14, 15, 17, 17], [13, 13, 2, 18, 20, 1]), delta(11));
      await append(delta(12, [], [22, 22, 1], { metadata: note }), delta(13), delta(10, [12, 12]));
      await takeOver();
      const { sizes } = await readAckLog(stores);
      expect(sizes).toEqual([{ groupId, size: { notes: 1, noteBytes: 3, holes: 3, attempts: 3 } }]);
    });

    test('a cursor that was loaded from the ack log is lost when the next fold does not write it', async () => {
      await append(delta(12, [14, 15]), delta(11));
      await takeOver();
      await readAckLog(stores);
      const found = new Map<number, { readonly cursor: CursorSnapshot; readonly inAckLog: boolean }>();
      const ids = [keys[0]!.subscriptionId];
      await stores.groups.loadCursors(ids, ({ key, cursor }, inAckLog) =>
        found.set(key.partition, { cursor, inAckLog }),
      );
      expect([0, 1, 2].map((partition) => found.get(partition)?.inAckLog)).toEqual([true, true, false]);
      stores.groups.cursorsLoaded(ids);
      await fold(found.get(0)!.cursor, found.get(1)!.cursor);
      while ((await fold()) !== 'EMPTIED');
      expect(await roundsLeft()).toBe(0);
      expect(await loaded()).toEqual([delta(12, [14, 15]), delta(11), start]);
    });

    test('the ack log takes an empty round and reads it back', async () => {
      await append(delta(12));
      await append();
      await takeOver();
      expect(await readAckLog(stores)).toMatchObject({ cursors: 1, rounds: 2 });
      expect(await loaded()).toEqual([delta(12), start, start]);
    });

    test('the ack log loses nothing in any order of appends, folds, resets and takeovers', async () => {
      const offsets = fc.integer({ min: 10, max: 30 });
      const anyDelta = fc.record({
        resets: fc.constant(0),
        metadata: fc.option(fc.constantFrom('', 'a', 'quoted "\\{,}\' NULL', 'é').map((text) => ({ seq: 0, text }))),
        committedOffset: offsets,
        acked: fc
          .uniqueArray(fc.integer({ min: 31, max: 60 }))
          .map((some) => some.flatMap((offset) => [offset, offset])),
        attempts: fc.uniqueArray(offsets).map((some) => attemptRunsOf(some, (offset) => 1 + ((offset % 5) >> 1))),
      });
      const move = fc.oneof(
        { weight: 4, arbitrary: fc.array(anyDelta, { minLength: 1, maxLength: 3 }) },
        { weight: 2, arbitrary: fc.constant('fold' as const) },
        { weight: 1, arbitrary: fc.constant('takeOver' as const) },
        { weight: 1, arbitrary: fc.constant('repeat' as const) },
        { weight: 1, arbitrary: fc.record({ at: fc.nat(2), offset: fc.nat(40) }) },
      );
      await fc.assert(
        fc.asyncProperty(fc.array(move, { maxLength: 12 }), async (moves) => {
          await subscribe();
          await takeOver();
          await readAckLog(stores);
          // The cursors in the memory of the broker, and those that changed since the last fold.
          let memory: CursorSnapshot[] = [start, start, start];
          let changed = new Set<number>();
          // Any round may be written again, even after a reset.
          const sent: CursorDelta[][] = [];
          let seq = 0;
          for (const one of moves) {
            if (one === 'fold') {
              const snapshots = [...changed].map((at) => ({ key: keys[at]!, cursor: memory[at]! }));
              await foldOf(() => snapshots);
              changed = new Set();
            } else if (one === 'takeOver') {
              await takeOver();
              expect(await loaded()).toEqual(memory);
              changed = new Set();
            } else if (one === 'repeat') {
              if (sent.length > 0) await append(...sent[0]!);
            } else if ('offset' in one) {
              const { at, offset } = one;
              const resets = memory[at]!.resets + 1;
              for (const _ of ['once', 'again']) {
                await stores.groups.resetCursors([{ key: keys[at]!, offset, resets }]);
              }
              // A fold during the reset may have the state before it.
              await fold(...memory);
              memory = memory.with(at, begunAt(offset, resets));
            } else {
              const deltas = one.map((delta, at) => ({
                ...delta,
                resets: memory[at]!.resets,
                metadata: delta.metadata && { ...delta.metadata, seq: ++seq },
              }));
              memory = memory.map((cursor, at) => (deltas[at] === undefined ? cursor : mergeDelta(cursor, deltas[at])));
              deltas.forEach((_, at) => changed.add(at));
              sent.push(deltas);
              await append(...deltas);
            }
          }
          await takeOver();
          expect(await loaded()).toEqual(memory);
        }),
        property(25),
      );
    });
  });

  describe('a cursor that was reset', () => {
    const reset = (at: number, offset: number, resets: number): Promise<number[]> =>
      stores.groups.resetCursors([{ key: keys[at]!, offset, resets }]);

    test('late rounds from before a reset do not change the cursor, not even on another broker', async () => {
      await append(delta(20, [25, 26], [22, 22, 4], { metadata: { seq: 9, text: 'before' } }), delta(11));
      await reset(0, 5, 1);
      await append(delta(21, [25, 27], [22, 22, 5], { metadata: { seq: 10, text: 'late' } }), delta(12));
      await takeOver();
      expect(await loaded()).toEqual([begunAt(5, 1), delta(12), start]);
      const now = delta(6, [9, 9], [], { resets: 1, metadata: { seq: 1, text: '' } });
      await append(now);
      await takeOver();
      expect(await loaded()).toEqual([now, delta(12), start]);
      while ((await fold(now)) === 'KEPT');
      expect(await roundsLeft()).toBe(0);
      expect(await loaded()).toEqual([now, delta(12), start]);
    });

    test('a fold of the state before a reset does not overwrite the cursor', async () => {
      await append(delta(20), delta(20));
      await fold(delta(20), delta(20));
      await reset(0, 5, 1);
      await fold(delta(21), delta(21));
      await takeOver();
      expect(await loaded()).toEqual([begunAt(5, 1), delta(21), start]);
    });

    test('a repeated reset to the same incarnation changes nothing', async () => {
      await reset(0, 5, 1);
      await reset(0, 7, 1);
      expect((await loaded())[0]).toEqual(begunAt(5, 1));
      await reset(0, 7, 2);
      expect((await loaded())[0]).toEqual(begunAt(7, 2));
    });

    test('a successor loads and folds a reset cursor beside untouched ones', async () => {
      await append(delta(20), delta(15, [], [], { metadata: { seq: 1, text: 'kept' } }));
      await takeOver();
      await loaded();
      await reset(0, 3, 1);
      while ((await fold()) === 'KEPT');
      expect(await roundsLeft()).toBe(0);
      const kept = delta(15, [], [], { metadata: { seq: 1, text: 'kept' } });
      expect(await loaded()).toEqual([begunAt(3, 1), kept, start]);
    });
  });

  describe('a fold', () => {
    test('folds write the cursors and empty their tables, all the way round the ring', async () => {
      for (let n = 1; n <= 4; n += 1) {
        await append(delta(10 + n, [100, 100 + n], [50, 50, n]));
        expect(await fold(delta(10 + n, [100, 100 + n], [50, 50, n]))).toBe('EMPTIED');
      }
      expect(await roundsLeft()).toBe(0);
      expect(await loaded()).toEqual([delta(14, [100, 104], [50, 50, 4]), start, start]);
    });

    test('a fold keeps a round that comes during it, because its snapshots lack that round', async () => {
      await append(delta(11));
      let late = Promise.resolve();
      await foldOf(() => {
        late = append(delta(12, [20, 20]));
        return [{ key: keys[0]!, cursor: delta(11) }];
      });
      await late;
      expect(await roundsLeft()).toBe(1);
      expect((await loaded())[0]).toEqual(delta(12, [20, 20]));
    });

    test('a fold takes the state of a cursor only after it wrote the cursors before it', async () => {
      await append(delta(11), delta(11));
      let asked = 0;
      await foldOf(function* () {
        for (const key of keys) {
          asked++;
          yield { key, cursor: delta(11) };
        }
      });
      expect(asked).toBe(3);
      await takeOver();
      expect(await loaded()).toEqual([delta(11), delta(11), delta(11)]);
    });

    test('a fold that fails before its last cursor loses no round, and the next fold empties the log', async () => {
      await append(delta(11, [20, 20]), delta(13));
      const breaking = foldOf(function* () {
        yield { key: keys[0]!, cursor: delta(11, [20, 20]) };
        throw new Error('the last cursor is not written');
      });
      await expect(breaking).rejects.toThrow('the last cursor');
      await append(delta(12));
      expect(await loaded()).toEqual([delta(12, [20, 20]), delta(13), start]);
      while ((await fold(delta(12, [20, 20]), delta(13))) === 'KEPT');
      expect(await roundsLeft()).toBe(0);
      expect(await loaded()).toEqual([delta(12, [20, 20]), delta(13), start]);
    });

    test('a fold that must stop still writes its first piece, so that each fold makes progress', async () => {
      await append(delta(11));
      const mayNot = (): boolean => false;
      expect(await foldOf(() => [{ key: keys[0]!, cursor: delta(11) }], mayNot)).toBe('EMPTIED');
      await takeOver();
      expect(await loaded()).toEqual([delta(11), start, start]);
    });

    test('a fold writes the cursors of the predecessor that no one has changed since', async () => {
      await append(delta(11), delta(12), delta(13));
      await takeOver();
      await loaded();
      await append(delta(20));
      while ((await fold(delta(20))) === 'KEPT');
      expect(await roundsLeft()).toBe(0);
      expect(await loaded()).toEqual([delta(20), delta(12), delta(13)]);
    });

    test('a fold before the load empties nothing, because the broker has not read the log', async () => {
      await append(delta(11), delta(12));
      await takeOver();
      for (let folds = 0; folds < 3; folds++) await fold();
      expect(await loaded()).toEqual([delta(11), delta(12), start]);
    });

    test('a fold reports a table with rows, so that an idle broker empties its log too', async () => {
      // The round goes into the table that the next owner uses first.
      await append(delta(11));
      await fold(delta(11));
      ring.turn();
      while (ring.current !== 1) ring.turn();
      await append(delta(12));
      await takeOver();
      await loaded();
      expect(await foldOf(() => [])).toBe('KEPT');
      expect(await foldOf(() => [])).toBe('EMPTIED');
      expect(await roundsLeft()).toBe(0);
      expect((await loaded())[0]).toEqual(delta(12));
    });
  });
}
