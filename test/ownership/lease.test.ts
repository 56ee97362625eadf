import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Lease, type LeaseEffect, type LeaseInput, type LeaseOperation } from '../../src/ownership/lease.ts';
import { confirmMs, leaseMs, pollMs, relockMs, renewMs } from '../../src/ownership/lease-times.ts';
import { property } from '../coordinator/property.ts';

const operations = new Set(['look', 'evict', 'unlock', 'prepare', 'takeOver', 'renew', 'relock']);
const marginMs = 500;

type Looked = Extract<LeaseInput, { type: 'looked' }>;

/** A lease whose invariants (SPEC.md) are looked at after every step. */
class CheckedLease {
  readonly lease = new Lease();
  nowMs = 0;
  underWay: LeaseOperation | null = null;
  /** When the operation under way was begun, and the last renewal that succeeded. */
  begunMs = 0;
  lookMs = 0;
  renewedMs = -Infinity;
  locked = false;
  /**
   * The young lease that was seen last with its lock free or in hand, and when it was first seen
   * so.
   */
  unrenewed: { renewal: string; sinceMs: number } | null = null;
  releases = 0;
  lost = 0;

  step(input: LeaseInput): LeaseEffect[] {
    const before = this.lease.state;
    const result = operations.has(operationOf(input));
    if (result) this.underWay = null;
    if (input.type === 'looked') this.lookMs = this.begunMs;
    if (input.type === 'looked') this.#looked(input);
    if (input.type === 'unlocked' || input.type === 'gaveBack') this.locked = false;
    if (input.type === 'renewed' || input.type === 'takenOver') this.renewedMs = this.begunMs;
    const effects = this.lease.step(input, this.nowMs);
    for (const effect of effects) this.#effect(effect);
    if (input.type === 'looked') this.#checkLook(input, effects);
    this.#check(before, input);
    return effects;
  }

  #looked({ locked, lease, lockedBy }: Looked): void {
    this.locked = locked;
    const young = lease !== null && lease.ageMs < leaseMs && (locked || lockedBy === null);
    if (!young) this.unrenewed = null;
    else if (this.unrenewed?.renewal !== lease.renewal) {
      this.unrenewed = { renewal: lease.renewal, sinceMs: this.nowMs };
    }
  }

  #checkLook({ locked, lease }: Looked, effects: readonly LeaseEffect[]): void {
    const [effect] = effects;
    if (effect?.type === 'prepare' && lease !== null && lease.ageMs < leaseMs) {
      const begunMs = this.lookMs;
      assert(this.unrenewed !== null && begunMs >= this.unrenewed.sinceMs + confirmMs, 'invariant 7');
    }
    if (locked && this.lease.state === 'STANDBY') assert.equal(effect?.type, 'unlock', 'a standby holds no lock');
  }

  #effect(effect: LeaseEffect): void {
    if (effect.type === 'release') {
      this.releases += 1;
      assert.equal(this.underWay, null, 'invariant 6: released while an operation was under way');
    } else if (effect.type === 'lost') {
      this.lost += 1;
    } else if (effect.type !== 'active') {
      assert.equal(this.underWay, null, 'invariant 1: two operations under way');
      this.underWay = effect;
      this.begunMs = this.nowMs;
    }
  }

  #check(before: string, input: LeaseInput): void {
    const { state } = this.lease;
    if (state === 'ACTIVE' && before !== 'ACTIVE') {
      assert.equal(input.type, 'takenOver', 'invariant 2');
      assert.equal(this.lease.epoch, (input as { epoch: number }).epoch, 'invariant 2');
    }
    const cannotHaveRunOut = this.nowMs < this.renewedMs + leaseMs - marginMs;
    assert.equal(this.lease.mayDeliver(this.nowMs), state === 'ACTIVE' && cannotHaveRunOut, 'invariant 3');
    if (before === 'ACTIVE' && state !== 'ACTIVE') {
      assert(['gone', 'fenced', 'broken', 'abandon', 'release'].includes(input.type), 'invariant 4');
    }
    const final = state === 'LOST' || state === 'RELEASED';
    assert.equal(this.releases, final && this.underWay === null ? 1 : 0, 'invariant 6');
    assert.equal(this.lost, state === 'LOST' ? 1 : 0);
    // Whatever waits has an operation under way or a time to wake at.
    assert.equal(this.lease.wakeMs === null, final || this.underWay !== null);
  }
}

function operationOf(input: LeaseInput): string {
  return {
    looked: 'look',
    evicted: 'evict',
    prepared: 'prepare',
    takenOver: 'takeOver',
    overtaken: 'takeOver',
    gaveBack: 'unlock',
    renewed: 'renew',
    relocked: 'relock',
    gone: 'renew',
    failed: 'look',
    broken: 'look',
    tick: '',
    unlocked: '',
    fenced: '',
    abandon: '',
    release: '',
  }[input.type];
}

const lease = fc.record({
  broker: fc.constantFrom('a', 'b'),
  epoch: fc.integer({ min: 1, max: 9 }),
  ageMs: fc.constantFrom(0, 5_999, 6_000, Infinity),
  renewal: fc.constantFrom('1', '1', '1', '2'),
});
const failed = fc.record({ type: fc.constant('failed' as const), jitter: fc.constantFrom(0, 0.5, 0.99) });
const broken = fc.constant({ type: 'broken', reason: 'no' } as const);
const results: { readonly [T in LeaseOperation['type']]: fc.Arbitrary<LeaseInput> } = {
  look: fc.record({
    type: fc.constant('looked' as const),
    locked: fc.boolean(),
    lease: fc.option(lease, { nil: null }),
    lockedBy: fc.option(fc.record({ broker: fc.constantFrom('a', 'b', null) }), { nil: null }),
  }),
  evict: fc.record({ type: fc.constant('evicted' as const), allowed: fc.boolean() }),
  prepare: fc.constant({ type: 'prepared' }),
  takeOver: fc.constantFrom<LeaseInput>({ type: 'takenOver', epoch: 7 }, { type: 'overtaken' }),
  unlock: fc.constant({ type: 'gaveBack' }),
  renew: fc.oneof(
    { weight: 3, arbitrary: fc.record({ type: fc.constant('renewed' as const), locked: fc.boolean() }) },
    fc.constant({ type: 'gone' } as const),
  ),
  relock: fc.record({ type: fc.constant('relocked' as const), locked: fc.boolean() }),
};
const words = fc.constantFrom<LeaseInput>(
  { type: 'tick' },
  { type: 'unlocked' },
  { type: 'fenced' },
  { type: 'abandon', reason: 'cannot' },
  { type: 'release' },
);

describe('whatever comes in whatever order', () => {
  test('no invariant of SPEC.md breaks', () => {
    const moves = fc.array(
      fc.record({
        waitMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 3_000 })),
        what: fc.constantFrom('wake', 'wake', 'result', 'result', 'result', 'failed', 'word', 'broken'),
        pick: fc.record(results),
        failed,
        broken,
        word: words,
        rare: fc.nat(19),
      }),
      { maxLength: 80 },
    );
    fc.assert(
      fc.property(moves, (steps) => {
        const checked = new CheckedLease();
        for (const move of steps) {
          checked.nowMs += move.waitMs;
          const { underWay } = checked;
          if (move.what === 'word' && (move.rare < 8 || move.word.type === 'unlocked')) checked.step(move.word);
          else if (underWay === null) checked.step({ type: 'tick' });
          else if (move.what === 'failed') checked.step(move.failed);
          else if (move.what === 'broken' && move.rare === 0) checked.step(move.broken);
          else checked.step(move.pick[underWay.type]);
        }
      }),
      property(500),
    );
  });

  test('it takes over only with the lock in hand, or when the owner cannot be made to give it up', () => {
    const looks = fc.array(fc.record({ look: results.look, evict: results.evict }), { maxLength: 40 });
    fc.assert(
      fc.property(looks, (steps) => {
        const checked = new CheckedLease();
        let evictions = 0;
        let refused: boolean;
        for (const { look, evict } of steps) {
          checked.nowMs += 1_000;
          refused = false;
          checked.step({ type: 'tick' });
          while (checked.underWay !== null && checked.underWay.type !== 'prepare') {
            const { type } = checked.underWay;
            if (type === 'evict') {
              assert(look.type === 'looked' && (look.lease?.ageMs ?? 0) >= leaseMs);
              evictions += 1;
              refused = evict.type === 'evicted' && !evict.allowed;
            }
            checked.step({ look, evict, unlock: { type: 'gaveBack' } as const }[type as 'look' | 'evict' | 'unlock']);
          }
          if (checked.underWay === null) continue;
          assert(checked.locked || refused || evictions >= 10, 'invariant 5');
          return;
        }
      }),
      property(300),
    );
  });
});

describe('a broker that stands by', () => {
  test('looks every 250 ms', () => {
    const { lease: machine } = standby(0);
    machine.step(
      {
        type: 'looked',
        locked: false,
        lease: { broker: 'a', epoch: 1, ageMs: 9, renewal: '1' },
        lockedBy: { broker: 'a' },
      },
      20,
    );
    expect(machine.wakeMs).toBe(20 + pollMs);
  });

  test('leaves another one alone that is taking over, however old the lease is', () => {
    const { lease: machine } = standby(0);
    const looked = {
      type: 'looked',
      locked: false,
      lease: { broker: 'a', epoch: 1, ageMs: Infinity, renewal: '1' },
    } as const;
    expect(machine.step({ ...looked, lockedBy: { broker: 'b' } }, 20)).toEqual([]);
  });

  test('does not snatch the lock from an owner whose database was restarted', () => {
    const { lease: machine } = standby(0);
    machine.step({ type: 'failed', jitter: 0 }, 10);
    expect(machine.step({ type: 'tick' }, 260)).toEqual([{ type: 'look', lock: false }]);
    const looked = { ...free, lease: { ...young, ageMs: 9_000 } };
    expect(machine.step(looked, 270)).toEqual([]);
    expect(machine.wakeMs).toBe(670);
    machine.step({ type: 'tick' }, 670);
    expect(machine.step(looked, 680)).toEqual([{ type: 'look', lock: true }]);
  });

  test('takes a lock that is free with a lease that was given up at once', () => {
    const { lease: machine } = standby(0);
    const givenUp = { ...free, lease: { ...young, ageMs: Infinity } };
    expect(machine.step(givenUp, 10)).toEqual([{ type: 'look', lock: true }]);
    expect(machine.step({ ...givenUp, locked: true, lockedBy: { broker: 'me' } }, 20)).toEqual([{ type: 'prepare' }]);
  });

  test('watches a young lease whose lock is free for less than a second before it takes over', () => {
    const { lease: machine } = standby(0);
    machine.step(free, 10);
    let nowMs = machine.wakeMs!;
    for (; machine.step({ type: 'tick' }, nowMs).length > 0; nowMs = machine.wakeMs!) {
      const [effect] = machine.step(free, nowMs + 5);
      if (effect !== undefined) break;
    }
    expect(nowMs).toBeGreaterThanOrEqual(10 + confirmMs);
    expect(nowMs).toBeLessThan(1_000 - pollMs + 150);
    expect(machine.step({ ...free, locked: true, lockedBy: { broker: 'me' } }, nowMs + 10)).toEqual([
      { type: 'prepare' },
    ]);
  });

  test('begins to watch anew when the lease was renewed, and leaves it alone when its owner has the lock again', () => {
    const { lease: machine } = standby(0);
    machine.step(free, 10);
    machine.step({ type: 'tick' }, 400);
    const renewed = { ...free, lease: { ...young, renewal: '2' } };
    machine.step(renewed, 405);
    machine.step({ type: 'tick' }, 600);
    expect(machine.step(renewed, 605)).toEqual([]);
    machine.step({ type: 'tick' }, 800);
    machine.step({ ...renewed, lockedBy: { broker: 'a' } }, 805);
    // What was seen before the owner had the lock again counts no more.
    machine.step({ type: 'tick' }, 1_100);
    expect(machine.step(renewed, 1_105)).toEqual([]);
  });

  test('gives the lock back when it finds the lease renewed as soon as it has it', () => {
    const machine = graspingAt(1_000);
    const renewed = { ...free, locked: true, lease: { ...young, renewal: '2' }, lockedBy: { broker: 'me' } };
    expect(machine.step(renewed, 1_010)).toEqual([{ type: 'unlock' }]);
    machine.step({ type: 'gaveBack' }, 1_020);
    expect([machine.state, machine.wakeMs]).toEqual(['STANDBY', 1_020 + pollMs]);
  });

  test('gives the lock back when the lease was renewed while it took over', () => {
    const machine = graspingAt(1_000);
    machine.step({ ...free, locked: true, lockedBy: { broker: 'me' } }, 1_010);
    expect(machine.step({ type: 'prepared' }, 1_020)).toEqual([{ type: 'takeOver', seen: young }]);
    expect(machine.step({ type: 'overtaken' }, 1_030)).toEqual([{ type: 'unlock' }]);
  });

  test('does not keep the lock while it cannot prepare', () => {
    const machine = graspingAt(1_000);
    machine.step({ ...free, locked: true, lockedBy: { broker: 'me' } }, 1_010);
    machine.step({ type: 'failed', jitter: 0 }, 1_020);
    machine.step({ type: 'tick' }, machine.wakeMs!);
    expect(machine.step({ ...free, locked: true, lockedBy: { broker: 'me' } }, 1_300)).toEqual([{ type: 'unlock' }]);
  });

  test('a broker that was released during its takeover gives the database up again', () => {
    const machine = takingOver();
    expect(machine.step({ type: 'release' }, 50)).toEqual([]);
    expect(machine.step({ type: 'takenOver', epoch: 4 }, 60)).toEqual([{ type: 'release', epoch: 4 }]);
    expect(machine.mayDeliver(60)).toBe(false);
  });
});

describe('the owner', () => {
  test('counts a renewal from when it was sent, not from when the answer came', () => {
    const machine = takingOver();
    machine.step({ type: 'takenOver', epoch: 4 }, 2_020);
    // The takeover was sent at 20 and waited for its predecessor.
    expect(machine.mayDeliver(5_519)).toBe(true);
    expect(machine.mayDeliver(5_520)).toBe(false);
    expect(machine.wakeMs).toBe(2_020);
  });

  test('goes on delivering when the database is back and the epoch is still its own', () => {
    const machine = takingOver();
    machine.step({ type: 'takenOver', epoch: 4 }, 30);
    let nowMs = machine.wakeMs!;
    for (; nowMs < 20_000; nowMs = machine.wakeMs!) {
      expect(machine.step({ type: 'tick' }, nowMs)).toEqual([{ type: 'renew', epoch: 4 }]);
      machine.step({ type: 'failed', jitter: 0.9 }, nowMs + 5);
      expect(machine.wakeMs! - nowMs).toBeLessThan(510);
    }
    expect(machine.mayDeliver(nowMs)).toBe(false);
    machine.step({ type: 'tick' }, nowMs);
    machine.step({ type: 'renewed', locked: true }, nowMs + 5);
    expect(machine.mayDeliver(nowMs + 5)).toBe(true);
    expect(machine.wakeMs).toBe(nowMs + renewMs);
  });

  test('takes a lost lock again at once', () => {
    const machine = takingOver();
    machine.step({ type: 'takenOver', epoch: 4 }, 30);
    machine.step({ type: 'unlocked' }, 500);
    expect(machine.wakeMs).toBe(500);
    expect(machine.step({ type: 'tick' }, 500)).toEqual([{ type: 'renew', epoch: 4 }]);
    machine.step({ type: 'unlocked' }, 510);
    machine.step({ type: 'renewed', locked: true }, 520);
    expect(machine.wakeMs).toBe(520);
  });

  test('an owner without the lock retries before a standby has watched it for long, and renews in time', () => {
    const machine = takingOver();
    machine.step({ type: 'takenOver', epoch: 4 }, 30);
    machine.step({ type: 'unlocked' }, 500);
    machine.step({ type: 'tick' }, 500);
    machine.step({ type: 'renewed', locked: false }, 510);
    const renewals: number[] = [];
    for (let nowMs = machine.wakeMs!; nowMs < 5_000; nowMs = machine.wakeMs!) {
      const [effect] = machine.step({ type: 'tick' }, nowMs);
      if (effect?.type === 'renew') renewals.push(nowMs);
      machine.step({ type: effect?.type === 'renew' ? 'renewed' : 'relocked', locked: false }, nowMs + 5);
      expect(machine.wakeMs! - nowMs).toBeLessThanOrEqual(5 + relockMs);
    }
    expect(renewals).toEqual([2_500, 4_500]);
    machine.step({ type: 'tick' }, 5_000);
    machine.step({ type: 'relocked', locked: true }, machine.wakeMs ?? 5_005);
    expect(machine.wakeMs).toBe(6_500);
  });
});

const young = { broker: 'a', epoch: 1, ageMs: 100, renewal: '1' };
const free: Looked = { type: 'looked', locked: false, lease: young, lockedBy: null };

function standby(nowMs: number): { lease: Lease } {
  const machine = new Lease();
  expect(machine.step({ type: 'tick' }, nowMs)).toEqual([{ type: 'look', lock: false }]);
  return { lease: machine };
}

/** One that has watched a young lease for long enough, and tries the lock at `nowMs`. */
function graspingAt(nowMs: number): Lease {
  const { lease: machine } = standby(0);
  machine.step(free, 10);
  machine.step({ type: 'tick' }, nowMs - 5);
  expect(machine.step(free, nowMs)).toEqual([{ type: 'look', lock: true }]);
  return machine;
}

function takingOver(): Lease {
  const { lease: machine } = standby(0);
  machine.step({ type: 'looked', locked: false, lease: null, lockedBy: null }, 5);
  machine.step({ type: 'looked', locked: true, lease: null, lockedBy: { broker: 'me' } }, 10);
  expect(machine.step({ type: 'prepared' }, 20)).toEqual([{ type: 'takeOver', seen: null }]);
  return machine;
}
