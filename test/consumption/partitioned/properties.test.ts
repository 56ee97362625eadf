import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { begunAt, mergeDelta, type CursorSnapshot, type Named } from '../../../src/consumption/partitioned/cursor.ts';
import { limits } from '../../../src/limits/limits.ts';
import { property } from '../../coordinator/property.ts';
import { offsetsOf, runsOf } from './oracle.ts';
import { CheckedScene, size, type Command } from './scene.ts';

// Bounds that forty offsets reach.
vi.mock('../../../src/limits/limits.ts', async (original) => {
  const { limits: real } = await original<{ limits: typeof limits }>();
  return { limits: { ...real, cursorInFlightRecordsMax: 12, cursorRangesMax: 3 } };
});

const offset = fc.nat(size - 1);
const runs = fc.uniqueArray(offset, { minLength: 1, maxLength: 8 }).map((all) => runsOf(all.sort((a, b) => a - b)));
const named: fc.Arbitrary<Named> = fc.oneof(
  offset.map((upTo) => ({ upTo })),
  // Near the beginning, so that many hit something.
  fc.nat(12).map((upTo) => ({ upTo })),
  runs.map((all) => ({ runs: all })),
  fc.tuple(fc.nat(16), fc.nat(3)).map(([first, more]) => ({ runs: [first, first + more] })),
  // Holes: more of them than the bound allows.
  fc
    .uniqueArray(fc.nat(5), { minLength: 3 })
    .map((all) => ({ runs: runsOf(all.sort((a, b) => a - b).map((n) => 2 * n + 1)) })),
);
const leaseMs = fc.constantFrom(null, null, 10, 30);
const delayMs = fc.constantFrom(null, 0, 5, 50);

const plain: readonly Command[] = [
  { type: 'resend' },
  { type: 'expire' },
  { type: 'round' },
  { type: 'round' },
  { type: 'fold' },
  { type: 'takeover' },
];

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ type: fc.constant('deliver' as const), most: fc.integer({ min: 1, max: 8 }), leaseMs }),
  },
  { weight: 8, arbitrary: named.map((one) => ({ type: 'ack' as const, named: one })) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('nack' as const), named, delayMs }) },
  { weight: 2, arbitrary: named.map((one) => ({ type: 'release' as const, named: one })) },
  { weight: 1, arbitrary: fc.boolean().map((countAttempt) => ({ type: 'giveBackAll' as const, countAttempt })) },
  {
    weight: 3,
    arbitrary: fc.constantFrom(...plain),
  },
  { weight: 1, arbitrary: fc.nat(size - 2).map((at) => ({ type: 'advance' as const, offset: at })) },
  { weight: 1, arbitrary: fc.constantFrom('', 'a', 'b').map((text) => ({ type: 'annotate' as const, text })) },
  { weight: 1, arbitrary: fc.nat(20).map((at) => ({ type: 'reset' as const, offset: at })) },
  { weight: 3, arbitrary: fc.nat(12).map((records) => ({ type: 'append' as const, records })) },
  { weight: 3, arbitrary: fc.constantFrom(1, 5, 20, 60_000).map((ms) => ({ type: 'pass' as const, ms })) },
);
const commands = fc.array(command, { maxLength: 60 });

test('whatever comes in whatever order, the cursor says and does what a table of single offsets does', () => {
  fc.assert(
    fc.property(commands, (all) => {
      const scene = new CheckedScene();
      for (const one of all) scene.do(one);
    }),
    property(1_500),
  );
});

test('rounds that are repeated, late or in another order leave what the cursor has', () => {
  const order = fc.infiniteStream(fc.nat());
  fc.assert(
    fc.property(commands, order, (all, picks) => {
      const scene = new CheckedScene();
      for (const one of all) scene.do(one);
      scene.round();
      const { deltas, folded } = scene;
      // Each at least once, some twice, in any order; onto the folded snapshot and onto the very first.
      const twice = [...deltas, ...deltas.filter(() => picks.next().value % 2 === 0)];
      const shuffled = twice.map((delta) => ({ delta, key: picks.next().value })).sort((a, b) => a.key - b.key);
      for (const base of [folded, begunAt(0), scene.cursor.snapshot()]) {
        expect(shuffled.reduce((to, { delta }) => mergeDelta(to, delta), base)).toEqual(scene.cursor.snapshot());
      }
    }),
    property(500),
  );
});

test('a full window or too many holes never stop it for good: acking what it gives out empties the log', () => {
  fc.assert(
    fc.property(commands, (all) => {
      const scene = new CheckedScene();
      for (const one of all) scene.do(one);
      scene.do({ type: 'append', records: size });
      // The holder has gone; the next one acks what it gets, the newest first.
      scene.do({ type: 'giveBackAll', countAttempt: true });
      scene.do({ type: 'pass', ms: 86_400_000 });
      for (let turns = 0; scene.cursor.committedOffset < scene.endOffset; turns++) {
        expect(turns).toBeLessThan(4 * size);
        const given: [number, number][] = [];
        for (let next = scene.next(); next.type === 'deliver'; next = scene.next()) {
          given.push([next.first, next.last]);
          scene.do({ type: 'deliver', most: size, leaseMs: null });
        }
        for (const [first, last] of given.reverse()) scene.do({ type: 'ack', named: { runs: [first, last] } });
      }
      expect(scene.cursor.inFlightRecords).toBe(0);
      expect(scene.cursor.inFlightBytes).toBe(0);
      expect(scene.cursor.snapshot()).toMatchObject({ committedOffset: scene.endOffset, acked: [], attempts: [] });
    }),
    property(500),
  );
});

test('no more than the bound is in flight, and no more holes than what is in flight can make', () => {
  fc.assert(
    fc.property(commands, (all) => {
      const scene = new CheckedScene();
      for (const one of all) {
        scene.do(one);
        expect(scene.cursor.inFlightRecords).toBeLessThanOrEqual(limits.cursorInFlightRecordsMax);
        const ranges = scene.cursor.snapshot().acked.length / 2;
        expect(ranges).toBeLessThanOrEqual(limits.cursorRangesMax + limits.cursorInFlightRecordsMax);
      }
    }),
    property(500),
  );
});

/** Much that is refused, near the beginning of a log whose records are out. */
const few = fc.oneof(
  fc.nat(7).map((upTo): Named => ({ upTo })),
  fc.tuple(fc.nat(7), fc.nat(1)).map(([first, more]): Named => ({ runs: [first, first + more] })),
);
const refusing = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ type: fc.constant('deliver' as const), most: fc.integer({ min: 1, max: 8 }), leaseMs }),
    },
    { weight: 4, arbitrary: few.map((one): Command => ({ type: 'ack', named: one })) },
    { weight: 2, arbitrary: few.map((one): Command => ({ type: 'nack', named: one, delayMs: 0 })) },
    { weight: 2, arbitrary: few.map((one): Command => ({ type: 'release', named: one })) },
    {
      weight: 1,
      arbitrary: fc.constantFrom<Command>({ type: 'expire' }, { type: 'pass', ms: 20 }, { type: 'resend' }),
    },
    { weight: 1, arbitrary: command },
  ),
  { maxLength: 40 },
);

/** What the holder has refused and nobody has acked since, told from what goes in and comes out alone. */
class Refusals {
  readonly open = new Set<number>();

  /** @returns the refused records that the command acked. */
  do(scene: CheckedScene, command: Command): number[] {
    const before = scene.cursor.snapshot();
    const attempts = Array.from({ length: size }, (_, at) => scene.cursor.attemptOf(at));
    const said = scene.do(command) as { readonly status?: string } | null;
    const { cursor } = scene;
    const acked = [...this.open].filter((at) => contains(cursor.snapshot(), at));
    for (const at of acked) this.open.delete(at);
    if (command.type === 'nack' || command.type === 'release') {
      const counts = said?.status === 'OK' || said?.status === 'LEASE_EXPIRED';
      for (const at of counts ? offsetsOf(command.named) : []) if (!contains(before, at)) this.open.add(at);
    } else if (command.type === 'expire') {
      for (let at = 0; at < size; at++) if (cursor.attemptOf(at) > attempts[at]!) this.open.add(at);
    } else if (command.type === 'giveBackAll' || command.type === 'takeover' || command.type === 'reset') {
      this.open.clear();
    }
    return acked;
  }
}

function contains({ committedOffset, acked }: CursorSnapshot, at: number): boolean {
  return at < committedOffset || offsetsOf({ runs: acked }).includes(at);
}

test('a record that was refused is never acked by a cumulative ack, and its own ack always counts', () => {
  let rejected = 0;
  fc.assert(
    fc.property(refusing, (all) => {
      const scene = new CheckedScene();
      const refusals = new Refusals();
      const begin: readonly Command[] = [
        { type: 'append', records: 20 },
        { type: 'deliver', most: 5, leaseMs: 10 },
      ];
      for (const one of [...begin, ...all]) {
        const passed = one.type === 'ack' && 'upTo' in one.named ? one.named.upTo : -1;
        if ([...refusals.open].some((at) => at <= passed)) rejected++;
        const acked = refusals.do(scene, one);
        if (passed >= 0) expect(acked).toEqual([]);
      }
      for (const at of refusals.open) {
        expect(scene.do({ type: 'ack', named: { runs: [at, at] } })).toMatchObject({ status: 'OK' });
      }
    }),
    property(500),
  );
  // Otherwise the property has seen nothing.
  expect(rejected).toBeGreaterThan(50);
});
