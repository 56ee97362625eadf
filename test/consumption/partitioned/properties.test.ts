import fc from 'fast-check';
import { expect, test } from 'vitest';
import { begunAt, mergeDelta, type CursorSnapshot } from '../../../src/consumption/partitioned/cursor.ts';
import { property } from '../../coordinator/property.ts';
import { bytesOf, offsetsOf, runsOf, type Named } from './oracle.ts';
import { bounds, CheckedScene, size, type Command } from './scene.ts';

const offset = fc.nat(size - 1);
const runs = fc.uniqueArray(offset, { minLength: 1, maxLength: 8 }).map((all) => runsOf(all.sort((a, b) => a - b)));
/** Runs near the beginning of the log, so that many commands find delivered records. */
const near = fc.tuple(fc.nat(16), fc.nat(3)).map(([first, more]) => [first, first + more]);
const named: fc.Arbitrary<Named> = fc.oneof(
  offset.map((upTo) => ({ upTo })),
  fc.nat(12).map((upTo) => ({ upTo })),
  runs.map((all) => ({ runs: all })),
  near.map((all) => ({ runs: all })),
  // More holes than the bound allows.
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
  { type: 'commit' },
  { type: 'stays' },
  { type: 'moved' },
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
    weight: 4,
    arbitrary: fc.constantFrom(...plain),
  },
  {
    weight: 2,
    arbitrary: fc.oneof(runs, near).map((all) => ({ type: 'move' as const, runs: all })),
  },
  { weight: 1, arbitrary: fc.nat(size - 2).map((at) => ({ type: 'advance' as const, offset: at })) },
  { weight: 1, arbitrary: fc.constantFrom('', 'a', 'b').map((text) => ({ type: 'annotate' as const, text })) },
  { weight: 1, arbitrary: fc.nat(20).map((at) => ({ type: 'reset' as const, offset: at })) },
  { weight: 3, arbitrary: fc.nat(12).map((records) => ({ type: 'append' as const, records })) },
  { weight: 3, arbitrary: fc.constantFrom(1, 5, 20, 60_000).map((ms) => ({ type: 'pass' as const, ms })) },
);
const commands = fc.array(command, { maxLength: 60 });

/** Ends all settlements: those that have committed succeed, and all others fail. */
function settleAll(scene: CheckedScene): void {
  while (scene.moving.length > 0) {
    scene.do({ type: scene.moving.some(({ committed }) => committed) ? 'moved' : 'stays' });
  }
}

test('after any inputs in any order, the cursor answers and behaves like a table with a row for each offset', () => {
  fc.assert(
    fc.property(commands, (all) => {
      const scene = new CheckedScene();
      for (const one of all) scene.do(one);
    }),
    property(1_500),
  );
});

test('rounds that are repeated, late or in another order lead to the state of the cursor', () => {
  const order = fc.infiniteStream(fc.nat());
  fc.assert(
    fc.property(commands, order, (all, picks) => {
      const scene = new CheckedScene();
      for (const one of all) scene.do(one);
      settleAll(scene);
      scene.round();
      const { deltas, folded } = scene;
      // Each delta comes at least once, some twice, in any order.
      const twice = [...deltas, ...deltas.filter(() => picks.next().value % 2 === 0)];
      const shuffled = twice.map((delta) => ({ delta, key: picks.next().value })).sort((a, b) => a.key - b.key);
      for (const base of [folded, begunAt(0), scene.cursor.snapshot()]) {
        expect(shuffled.reduce((to, { delta }) => mergeDelta(to, delta), base)).toEqual(scene.cursor.snapshot());
      }
    }),
    property(500),
  );
});

test('a full window or too many holes never stop a cursor for good: acks of what it delivers empty the log', () => {
  fc.assert(
    fc.property(commands, (all) => {
      const scene = new CheckedScene();
      for (const one of all) scene.do(one);
      scene.do({ type: 'append', records: size });
      // A new holder acks what it gets, the newest first, which makes as many holes as possible.
      scene.do({ type: 'giveBackAll', countAttempt: true });
      settleAll(scene);
      scene.do({ type: 'pass', ms: 86_400_000 });
      for (let deliveries = 0; scene.cursor.committedOffset < scene.endOffset; deliveries++) {
        expect(deliveries).toBeLessThan(4 * size);
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

test('a cursor never has more records in flight than its bound, nor more holes than their acks can make', () => {
  fc.assert(
    fc.property(commands, (all) => {
      const scene = new CheckedScene();
      for (const one of all) {
        scene.do(one);
        expect(scene.cursor.inFlightRecords).toBeLessThanOrEqual(bounds.inFlightRecordsMax);
        const ranges = scene.cursor.snapshot().acked.length / 2;
        expect(ranges).toBeLessThanOrEqual(bounds.ackedRunsMax + bounds.inFlightRecordsMax);
      }
    }),
    property(500),
  );
});

test('a cursor never has more runs of attempts than its bound and its runs of acks, and neither has what is stored of it', () => {
  fc.assert(
    fc.property(commands, (all) => {
      const scene = new CheckedScene();
      for (const one of all) {
        scene.do(one);
        scene.do({ type: 'round' });
        for (const { attempts, acked } of [scene.cursor.snapshot(), scene.stored()]) {
          expect(attempts.length / 3).toBeLessThanOrEqual(bounds.attemptRunsMax + acked.length / 2);
        }
      }
    }),
    property(500),
  );
});

/** Commands with many settlements, beside everything else that can happen to records in flight. */
const settling = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ type: fc.constant('deliver' as const), most: fc.integer({ min: 1, max: 8 }), leaseMs }),
    },
    { weight: 3, arbitrary: near.map((all): Command => ({ type: 'move', runs: all })) },
    {
      weight: 3,
      arbitrary: fc.constantFrom<Command>(
        { type: 'commit' },
        { type: 'moved' },
        { type: 'stays' },
        { type: 'takeover' },
      ),
    },
    { weight: 3, arbitrary: command },
  ),
  { maxLength: 40 },
);

test('a record that a settlement completes is never delivered again, even after a takeover, and no record behind it goes out meanwhile', () => {
  let heldBack = 0;
  fc.assert(
    fc.property(settling, (all) => {
      const scene = new CheckedScene();
      const completed = new Set<number>();
      for (const one of [{ type: 'append', records: 20 } as const, ...all]) {
        const lowest = Math.min(...scene.moving.flatMap(({ token }) => token.runs));
        const next = scene.next();
        if (next.type === 'deliver') {
          expect(next.last).toBeLessThan(lowest);
          for (let at = next.first; at <= next.last; at++) expect(completed).not.toContain(at);
        } else if (next.on === 'MOVING') heldBack++;
        scene.do(one);
        for (const { token, committed } of scene.moving) {
          for (const at of committed ? offsetsOf(token) : []) completed.add(at);
        }
        if (one.type === 'reset') completed.clear();
      }
    }),
    property(500),
  );
  // Otherwise the property would hold without a single MOVING record.
  expect(heldBack).toBeGreaterThan(50);
});

test('every delivered record comes back exactly once, to the byte, whatever settlements move meanwhile', () => {
  fc.assert(
    fc.property(settling, (all) => {
      const scene = new CheckedScene();
      let records = 0;
      let bytes = 0;
      const take = (freed: unknown): void => {
        records -= (freed as { records?: number } | null)?.records ?? 0;
        bytes -= (freed as { bytes?: number } | null)?.bytes ?? 0;
      };
      for (const one of [{ type: 'append', records: 20 } as const, ...all]) {
        const next = scene.next();
        const freed = scene.do(one);
        if (one.type === 'takeover' || one.type === 'reset') records = bytes = 0;
        else if (one.type !== 'deliver') take(freed);
        else if (next.type === 'deliver') {
          const last = Math.min(next.last, next.first + one.most - 1);
          records += last - next.first + 1;
          bytes += bytesOf(next.first, last);
        }
        expect([scene.cursor.inFlightRecords, scene.cursor.inFlightBytes]).toEqual([records, bytes]);
      }
      scene.do({ type: 'giveBackAll', countAttempt: false });
      settleAll(scene);
      expect([scene.cursor.inFlightRecords, scene.cursor.inFlightBytes]).toEqual([0, 0]);
    }),
    property(500),
  );
});

/** Offsets near the beginning of the log, where records are in flight. */
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

/** The un-acked records that the holder has refused, found from commands and answers alone. */
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

test('a cumulative ack never acks a refused record, and an ack that names the record always counts', () => {
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
  // Otherwise the property would hold without a single cumulative ack that passes a refused record.
  expect(rejected).toBeGreaterThan(50);
});
