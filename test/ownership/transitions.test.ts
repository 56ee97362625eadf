import { describe, expect, test } from 'vitest';
import { Lease, type LeaseInput, type LeaseState } from '../../src/ownership/lease.ts';

type InputType = LeaseInput['type'];
/**
 * Inputs after which the machine, brought into the state of the row, is in the state of the column.
 */
type Ways = Partial<Record<LeaseState, readonly LeaseInput[][]>> | 'cannot come';

const fresh = { broker: 'a', epoch: 1, ageMs: 100, renewal: '1' };
const stale = { broker: 'a', epoch: 1, ageMs: 6_000, renewal: '1' };
const tick: LeaseInput = { type: 'tick' };
const free: LeaseInput = { type: 'looked', locked: true, lease: stale, lockedBy: { broker: 'me' } };
const young: LeaseInput = { type: 'looked', locked: true, lease: fresh, lockedBy: { broker: 'me' } };
const vacant: LeaseInput = { type: 'looked', locked: false, lease: stale, lockedBy: null };
const watched: LeaseInput = { type: 'looked', locked: false, lease: fresh, lockedBy: null };
const gaveBack: LeaseInput = { type: 'gaveBack' };
const owned: LeaseInput = { type: 'looked', locked: false, lease: fresh, lockedBy: { broker: 'a' } };
const frozen: LeaseInput = { type: 'looked', locked: false, lease: stale, lockedBy: { broker: 'a' } };
const taking: LeaseInput = { type: 'looked', locked: false, lease: stale, lockedBy: { broker: 'other' } };
const neverOwned: LeaseInput = { type: 'looked', locked: false, lease: null, lockedBy: { broker: 'other' } };
const prepared: LeaseInput = { type: 'prepared' };
const takenOver: LeaseInput = { type: 'takenOver', epoch: 2 };
const failed: LeaseInput = { type: 'failed', jitter: 0.5 };
const unlocked: LeaseInput = { type: 'unlocked' };
const broken: LeaseInput = { type: 'broken', reason: 'a newer schema' };
const abandon: LeaseInput = { type: 'abandon', reason: 'nothing could be loaded' };
const fenced: LeaseInput = { type: 'fenced' };
const release: LeaseInput = { type: 'release' };

/**
 * How each state is reached; an operation is under way in the first three, and none in the others.
 */
const into: Readonly<Record<LeaseState, readonly LeaseInput[]>> = {
  STANDBY: [tick],
  PREPARING: [tick, free],
  TAKING_OVER: [tick, free, prepared],
  ACTIVE: [tick, free, prepared, takenOver],
  LOST: [tick, free, prepared, takenOver, fenced],
  RELEASED: [tick, free, prepared, takenOver, release],
};

const no = 'cannot come';
/** The final states take whatever comes and stay. */
const final = (input: LeaseInput): Record<'LOST' | 'RELEASED', Ways> => ({
  LOST: { LOST: [[input]] },
  RELEASED: { RELEASED: [[input]] },
});

const table: Readonly<Record<InputType, Readonly<Record<LeaseState, Ways>>>> = {
  tick: {
    STANDBY: { STANDBY: [[tick], [owned, tick]] },
    PREPARING: { PREPARING: [[tick]] },
    TAKING_OVER: { TAKING_OVER: [[tick]] },
    ACTIVE: { ACTIVE: [[tick]] },
    ...final(tick),
  },
  looked: {
    STANDBY: {
      STANDBY: [[owned], [frozen], [taking], [neverOwned], [watched], [young], [vacant]],
      PREPARING: [[free], [vacant, free]],
    },
    PREPARING: no,
    TAKING_OVER: no,
    ACTIVE: no,
    ...final(free),
  },
  evicted: {
    STANDBY: {
      STANDBY: [[frozen, { type: 'evicted', allowed: true }]],
      PREPARING: [[frozen, { type: 'evicted', allowed: false }]],
    },
    PREPARING: no,
    TAKING_OVER: no,
    ACTIVE: no,
    ...final({ type: 'evicted', allowed: true }),
  },
  gaveBack: {
    STANDBY: { STANDBY: [[young, gaveBack]] },
    PREPARING: no,
    TAKING_OVER: { STANDBY: [[{ type: 'overtaken' }, gaveBack]] },
    ACTIVE: no,
    ...final(gaveBack),
  },
  prepared: {
    STANDBY: no,
    PREPARING: { TAKING_OVER: [[prepared]], STANDBY: [[unlocked, prepared]] },
    TAKING_OVER: no,
    ACTIVE: no,
    ...final(prepared),
  },
  takenOver: { STANDBY: no, PREPARING: no, TAKING_OVER: { ACTIVE: [[takenOver]] }, ACTIVE: no, ...final(takenOver) },
  overtaken: {
    STANDBY: no,
    PREPARING: no,
    TAKING_OVER: { STANDBY: [[{ type: 'overtaken' }]] },
    ACTIVE: no,
    ...final({ type: 'overtaken' }),
  },
  renewed: {
    STANDBY: no,
    PREPARING: no,
    TAKING_OVER: no,
    ACTIVE: { ACTIVE: [[{ type: 'renewed', locked: true }], [{ type: 'renewed', locked: false }]] },
    ...final({ type: 'renewed', locked: true }),
  },
  relocked: {
    STANDBY: no,
    PREPARING: no,
    TAKING_OVER: no,
    ACTIVE: { ACTIVE: [[{ type: 'relocked', locked: true }], [{ type: 'relocked', locked: false }]] },
    ...final({ type: 'relocked', locked: true }),
  },
  gone: {
    STANDBY: no,
    PREPARING: no,
    TAKING_OVER: no,
    ACTIVE: { LOST: [[{ type: 'gone' }]] },
    ...final({ type: 'gone' }),
  },
  failed: {
    STANDBY: { STANDBY: [[failed]] },
    PREPARING: { STANDBY: [[failed]] },
    TAKING_OVER: { STANDBY: [[failed]] },
    ACTIVE: { ACTIVE: [[failed]] },
    ...final(failed),
  },
  broken: {
    STANDBY: { LOST: [[broken]] },
    PREPARING: { LOST: [[broken]] },
    TAKING_OVER: { LOST: [[broken]] },
    ACTIVE: { LOST: [[broken]] },
    ...final(broken),
  },
  unlocked: {
    STANDBY: { STANDBY: [[unlocked]] },
    PREPARING: { PREPARING: [[unlocked]] },
    TAKING_OVER: { TAKING_OVER: [[unlocked]] },
    ACTIVE: { ACTIVE: [[unlocked]] },
    ...final(unlocked),
  },
  fenced: {
    STANDBY: { STANDBY: [[fenced]] },
    PREPARING: { PREPARING: [[fenced]] },
    TAKING_OVER: { TAKING_OVER: [[fenced]] },
    ACTIVE: { LOST: [[fenced]] },
    ...final(fenced),
  },
  abandon: {
    STANDBY: { LOST: [[abandon]] },
    PREPARING: { LOST: [[abandon]] },
    TAKING_OVER: { LOST: [[abandon]] },
    ACTIVE: { LOST: [[abandon]] },
    ...final(abandon),
  },
  release: {
    STANDBY: { RELEASED: [[release]] },
    PREPARING: { RELEASED: [[release]] },
    TAKING_OVER: { RELEASED: [[release]] },
    ACTIVE: { RELEASED: [[release]] },
    ...final(release),
  },
};

describe.each(Object.keys(into) as LeaseState[])('%s', (from) => {
  const cases = Object.entries(table).flatMap(([type, row]) =>
    Object.entries(row[from] === no ? {} : row[from]).flatMap(([to, ways]) =>
      ways.map((inputs) => ({ type, to, inputs, shown: inputs.map((input) => input.type).join(', ') })),
    ),
  );

  test.each(cases)('$type: after $shown it is $to', ({ to, inputs }) => {
    const lease = new Lease();
    const nowMs = 1_000;
    for (const input of into[from]) lease.step(input, nowMs);
    expect(lease.state).toBe(from);
    for (const input of inputs) lease.step(input, nowMs);
    expect(lease.state).toBe(to);
  });
});
