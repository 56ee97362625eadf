import fc from 'fast-check';
import { expect, test } from 'vitest';
import { begunAt, mergeDelta, type CursorSnapshot } from '../../../src/consumption/partitioned/cursor.ts';
import { property } from '../../coordinator/property.ts';
import { attemptRunsOf, attemptsOf, offsetsOf, runsOf } from '../partitioned/oracle.ts';

const size = 30;
const nothing = begunAt(0);

/** Any state of a snapshot or a delta, in its normal form. */
const state = fc
  .record({
    resets: fc.nat(2),
    // The text follows from the number, because no two notes of an incarnation share a number.
    note: fc.option(fc.integer({ min: 1, max: 4 })),
    committedOffset: fc.nat(size),
    acked: fc.uniqueArray(fc.nat(size), { maxLength: 10 }),
    attempts: fc.uniqueArray(fc.tuple(fc.nat(size), fc.integer({ min: 1, max: 5 })), {
      selector: ([offset]) => offset,
      maxLength: 6,
    }),
  })
  .map(({ resets, note, committedOffset, acked, attempts }) =>
    mergeDelta(begunAt(0, resets), {
      resets,
      metadata: note === null ? null : { seq: note, text: `note ${note} of ${resets}` },
      committedOffset,
      acked: runsOf(acked.filter((offset) => offset > committedOffset).sort((a, b) => a - b)),
      attempts: attemptRunsOf(new Map(attempts).keys(), (offset) => new Map(attempts).get(offset)!),
    }),
  );

function ackedOf({ committedOffset, acked }: CursorSnapshot): number[] {
  return [...Array.from({ length: committedOffset }, (_, offset) => offset), ...offsetsOf({ runs: acked })];
}

test('deltas that overtake each other lead to the same state', () => {
  fc.assert(
    fc.property(state, state, state, (snapshot, a, b) => {
      expect(mergeDelta(mergeDelta(snapshot, a), b)).toEqual(mergeDelta(mergeDelta(snapshot, b), a));
      expect(mergeDelta(snapshot, mergeDelta(a, b))).toEqual(mergeDelta(mergeDelta(snapshot, a), b));
    }),
    property(1_000),
  );
});

test('a delta that is applied again changes nothing', () => {
  fc.assert(
    fc.property(state, state, (snapshot, delta) => {
      const once = mergeDelta(snapshot, delta);
      expect(mergeDelta(once, delta)).toEqual(once);
      expect(mergeDelta(snapshot, snapshot)).toEqual(snapshot);
      expect(mergeDelta(snapshot, nothing)).toEqual(snapshot);
    }),
    property(1_000),
  );
});

test('no delta of the same incarnation takes back an ack or a note, or lowers a count of attempts', () => {
  fc.assert(
    fc.property(state, state, (snapshot, other) => {
      const delta = { ...other, resets: snapshot.resets };
      const merged = mergeDelta(snapshot, delta);
      const acked = new Set(ackedOf(merged));
      expect(acked).toEqual(new Set([...ackedOf(snapshot), ...ackedOf(delta)]));
      // The normal form: the committed offset is the lowest that is not acked.
      expect(acked.has(merged.committedOffset)).toBe(false);
      expect(ackedOf(merged).length).toBe(acked.size);
      expect(merged.committedOffset).toBeGreaterThanOrEqual(Math.max(snapshot.committedOffset, delta.committedOffset));
      const counts = attemptsOf(merged.attempts);
      for (const [offset, count] of [...attemptsOf(snapshot.attempts), ...attemptsOf(delta.attempts)]) {
        if (acked.has(offset)) expect(counts.has(offset)).toBe(false);
        else expect(counts.get(offset)).toBeGreaterThanOrEqual(count);
      }
      const seqOf = ({ metadata }: CursorSnapshot): number => metadata?.seq ?? 0;
      expect(seqOf(merged)).toBe(Math.max(seqOf(snapshot), seqOf(delta)));
    }),
    property(1_000),
  );
});

test('a late delta from before a reset changes nothing, and no number of them undoes the reset', () => {
  fc.assert(
    fc.property(state, state, fc.array(state), (a, b, others) => {
      const before = { ...a, resets: 1 };
      const after = { ...b, resets: 5 };
      expect(mergeDelta(after, before)).toEqual(after);
      expect(mergeDelta(before, after)).toEqual(after);
      const older = others.map((one) => ({ ...one, resets: one.resets + 1 }));
      expect([...older, after, ...older].reduce(mergeDelta, before)).toEqual(after);
    }),
    property(1_000),
  );
});
