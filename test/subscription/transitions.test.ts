import { describe, expect, test } from 'vitest';
import { step, type LifeInput, type SubscriptionLife, type SubscriptionState } from '../../src/subscription/life.ts';

const nowMs = 1_000_000;
const deadAfterMs = 240_000;
const heardAtMs = nowMs - 5_000;
/** A last sign of life after which a look is due, and one after which none is. */
const longAgo = nowMs - deadAfterMs;
const lately = nowMs - deadAfterMs + 1;

type Since = SubscriptionLife['unattendedSinceMs'];

function life(state: SubscriptionState, unattendedSinceMs: Since): SubscriptionLife {
  return { state, reason: 'CREATED', changedAtMs: 0, deadAfterMs, unattendedSinceMs };
}

/** The outcome for a group with a member, and for one that lost its last member. */
interface Cell {
  readonly withMember: Expected;
  readonly longAgo: Expected;
  readonly lately: Expected;
}

type Expected = 'SAME' | 'FORBIDDEN' | Partial<SubscriptionLife>;

const always = (expected: Expected): Cell => ({ withMember: expected, longAgo: expected, lately: expected });
const becomes = (
  state: SubscriptionState,
  reason: SubscriptionLife['reason'],
  unattendedSinceMs: Since,
): Partial<SubscriptionLife> => ({ state, reason, unattendedSinceMs, changedAtMs: nowMs });

type InputName = LifeInput['type'] | 'RESUME with a member';
const inputs: Readonly<Record<InputName, LifeInput>> = {
  ATTENDED: { type: 'ATTENDED' },
  LEFT: { type: 'LEFT', heardAtMs },
  LOOK: { type: 'LOOK' },
  PAUSE: { type: 'PAUSE' },
  RESUME: { type: 'RESUME', isAttended: false },
  'RESUME with a member': { type: 'RESUME', isAttended: true },
  UPDATE: { type: 'UPDATE', deadAfterMs: null },
  CANCEL: { type: 'CANCEL' },
};

const clears: Cell = {
  withMember: 'SAME',
  longAgo: { unattendedSinceMs: null },
  lately: { unattendedSinceMs: null },
};
const begins: Cell = { withMember: { unattendedSinceMs: heardAtMs }, longAgo: 'SAME', lately: 'SAME' };
const ended = always(becomes('CANCELLED', 'CANCELLED', null));
const paused = (since: Since): Expected => becomes('PAUSED', 'PAUSED', since);
const resumed = (since: Since): Expected => becomes('ACTIVE', 'RESUMED', since);
const neverDies = always({ deadAfterMs: null });

const table: Readonly<Record<SubscriptionState, Readonly<Record<InputName, Cell>>>> = {
  ACTIVE: {
    ATTENDED: clears,
    LEFT: begins,
    LOOK: { withMember: 'SAME', longAgo: becomes('DEAD', 'UNATTENDED', longAgo), lately: 'SAME' },
    PAUSE: { withMember: paused(null), longAgo: paused(longAgo), lately: paused(lately) },
    RESUME: always('SAME'),
    'RESUME with a member': always('SAME'),
    UPDATE: neverDies,
    CANCEL: ended,
  },
  PAUSED: {
    ATTENDED: clears,
    LEFT: begins,
    LOOK: always('SAME'),
    PAUSE: always('SAME'),
    RESUME: { withMember: resumed(null), longAgo: resumed(nowMs), lately: resumed(nowMs) },
    'RESUME with a member': always(resumed(null)),
    UPDATE: neverDies,
    CANCEL: ended,
  },
  DEAD: {
    ATTENDED: always(becomes('ACTIVE', 'RETURNED', null)),
    LEFT: always('SAME'),
    LOOK: always('SAME'),
    PAUSE: always('FORBIDDEN'),
    RESUME: always('FORBIDDEN'),
    'RESUME with a member': always('FORBIDDEN'),
    UPDATE: neverDies,
    CANCEL: ended,
  },
  CANCELLED: {
    ATTENDED: always('SAME'),
    LEFT: always('SAME'),
    LOOK: always('SAME'),
    PAUSE: always('FORBIDDEN'),
    RESUME: always('FORBIDDEN'),
    'RESUME with a member': always('FORBIDDEN'),
    UPDATE: always('FORBIDDEN'),
    CANCEL: always('SAME'),
  },
};

const sinceOf: Readonly<Record<keyof Cell, Since>> = { withMember: null, longAgo, lately };

function outcomeOf(before: SubscriptionLife, expected: Expected): ReturnType<typeof step> {
  if (expected === 'SAME') return { type: 'SAME' };
  if (expected === 'FORBIDDEN') return { type: 'FORBIDDEN', state: before.state };
  const after = { ...before, ...expected };
  return { type: 'CHANGED', life: after, claim: after.state === before.state ? 'SAME' : 'CHANGED' };
}

describe.each(Object.entries(table))('a subscription that is %s', (state, row) => {
  test.each(Object.entries(row))('does with %s what its table says', (name, cell) => {
    for (const [when, since] of Object.entries(sinceOf) as [keyof Cell, Since][]) {
      const before = life(state as SubscriptionState, since);
      expect(step(before, inputs[name as InputName], nowMs), when).toEqual(outcomeOf(before, cell[when]));
    }
  });
});

test('a sign of life that the broker dates into the future counts as one of now', () => {
  const outcome = step(life('ACTIVE', null), { type: 'LEFT', heardAtMs: nowMs + 1 }, nowMs);
  expect(outcome).toMatchObject({ life: { unattendedSinceMs: nowMs } });
});

test('a subscription that never dies stays ACTIVE however long nobody comes', () => {
  const before = { ...life('ACTIVE', 0), deadAfterMs: null };
  expect(step(before, { type: 'LOOK' }, Number.MAX_SAFE_INTEGER)).toEqual({ type: 'SAME' });
});
