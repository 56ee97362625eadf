/**
 * The life of a subscription: its states, and what changes them. The machine is deterministic,
 * without I/O and without a clock. SPEC.md beside this file defines each input.
 *
 * ```
 *              pause                      no member for deadAfterMs
 *   PAUSED ◀─────────── ACTIVE ───────────────────────────────────▶ DEAD
 *      │  ───────────▶    │  ◀─────────────────────────────────────  │
 *      │     resume       │                a member comes            │
 *      └──────── cancel ──┴──▶ CANCELLED ◀── cancel ─────────────────┘
 * ```
 *
 *  1. CANCELLED is final.
 *  2. Only a look ends in DEAD, only from ACTIVE, and never before deadAfterMs without a member.
 *  3. A subscription whose group never had a member does not die.
 *  4. A member that comes ends DEAD, and no subscription is unattended while there is a member.
 *  5. A forbidden input changes nothing.
 *  6. An input that is repeated at once changes nothing.
 *  7. The time without a member counts from the last sign of life, whatever happens meanwhile.
 *     Only the end of a pause starts it again.
 *  8. The claim changes exactly with the state.
 */

export type SubscriptionState = 'ACTIVE' | 'PAUSED' | 'DEAD' | 'CANCELLED';

/** UNKNOWN: the subscription is older than this field. */
export type StateReason = 'UNKNOWN' | 'CREATED' | 'PAUSED' | 'RESUMED' | 'UNATTENDED' | 'RETURNED' | 'CANCELLED';

/** All times are those of the database's clock, in milliseconds since the epoch. */
export interface SubscriptionLife {
  readonly state: SubscriptionState;
  readonly reason: StateReason;
  readonly changedAtMs: number;
  /** null: it never dies. */
  readonly deadAfterMs: number | null;
  /** The last sign of life of the last member; null with a member, and before the first one. */
  readonly unattendedSinceMs: number | null;
}

export type LifeInput =
  /** The group has a member. */
  | { readonly type: 'ATTENDED' }
  /** The group has lost its last member, of which the broker heard last at this time. */
  | { readonly type: 'LEFT'; readonly heardAtMs: number }
  /** Time has passed. */
  | { readonly type: 'LOOK' }
  | { readonly type: 'PAUSE' }
  | { readonly type: 'RESUME'; readonly isAttended: boolean }
  | { readonly type: 'UPDATE'; readonly deadAfterMs: number | null }
  | { readonly type: 'CANCEL' };

type LifeOutcome =
  /** `claim`: whether what the subscription holds back, or is owed, has changed. */
  | { readonly type: 'CHANGED'; readonly life: SubscriptionLife; readonly claim: 'SAME' | 'CHANGED' }
  | { readonly type: 'SAME' }
  | { readonly type: 'FORBIDDEN'; readonly state: SubscriptionState };

type Rule = (life: SubscriptionLife, nowMs: number) => LifeOutcome;
/** A row of the table: the outcome of one input in each state. */
type Row = Readonly<Record<SubscriptionState, Rule>>;

/** The life of a subscription that a call creates, also in a group with members. */
export function createdLife(deadAfterMs: number | null, nowMs: number): SubscriptionLife {
  return { state: 'ACTIVE', reason: 'CREATED', changedAtMs: nowMs, deadAfterMs, unattendedSinceMs: null };
}

/** When a look would end in DEAD; null if no look would. */
export function deadAtMs({ state, deadAfterMs, unattendedSinceMs }: SubscriptionLife): number | null {
  if (state !== 'ACTIVE' || deadAfterMs === null || unattendedSinceMs === null) return null;
  return unattendedSinceMs + deadAfterMs;
}

/** The outcome of an input. It is the table of SPEC.md, and complete by type. */
export function step(life: SubscriptionLife, input: LifeInput, nowMs: number): LifeOutcome {
  return rowOf(input)[life.state](life, nowMs);
}

function rowOf(input: LifeInput): Row {
  switch (input.type) {
    case 'ATTENDED':
      return attended;
    case 'LEFT':
      return left(input.heardAtMs);
    case 'LOOK':
      return look;
    case 'PAUSE':
      return pause;
    case 'RESUME':
      return resume(input.isAttended);
    case 'UPDATE':
      return update(input.deadAfterMs);
    case 'CANCEL':
      return cancel;
  }
}

const same: Rule = () => ({ type: 'SAME' });
const forbidden: Rule = ({ state }) => ({ type: 'FORBIDDEN', state });

const attended: Row = {
  ACTIVE: (life) => withSince(life, null),
  PAUSED: (life) => withSince(life, null),
  DEAD: (life, nowMs) => become(life, 'ACTIVE', 'RETURNED', null, nowMs),
  CANCELLED: same,
};

function left(heardAtMs: number): Row {
  const begin: Rule = (life, nowMs) =>
    life.unattendedSinceMs === null ? withSince(life, Math.min(heardAtMs, nowMs)) : { type: 'SAME' };
  return { ACTIVE: begin, PAUSED: begin, DEAD: same, CANCELLED: same };
}

const look: Row = {
  ACTIVE: (life, nowMs) =>
    nowMs >= (deadAtMs(life) ?? Infinity)
      ? become(life, 'DEAD', 'UNATTENDED', life.unattendedSinceMs, nowMs)
      : { type: 'SAME' },
  PAUSED: same,
  DEAD: same,
  CANCELLED: same,
};

const pause: Row = {
  ACTIVE: (life, nowMs) => become(life, 'PAUSED', 'PAUSED', life.unattendedSinceMs, nowMs),
  PAUSED: same,
  DEAD: forbidden,
  CANCELLED: forbidden,
};

/** Without a member the time starts again, because a pause may be longer than deadAfterMs. */
function resume(isAttended: boolean): Row {
  return {
    ACTIVE: same,
    PAUSED: (life, nowMs) => {
      const since = isAttended || life.unattendedSinceMs === null ? null : nowMs;
      return become(life, 'ACTIVE', 'RESUMED', since, nowMs);
    },
    DEAD: forbidden,
    CANCELLED: forbidden,
  };
}

function update(deadAfterMs: number | null): Row {
  const set: Rule = (life) =>
    life.deadAfterMs === deadAfterMs
      ? { type: 'SAME' }
      : { type: 'CHANGED', life: { ...life, deadAfterMs }, claim: 'SAME' };
  return { ACTIVE: set, PAUSED: set, DEAD: set, CANCELLED: forbidden };
}

const end: Rule = (life, nowMs) => become(life, 'CANCELLED', 'CANCELLED', null, nowMs);
const cancel: Row = { ACTIVE: end, PAUSED: end, DEAD: end, CANCELLED: same };

function withSince(life: SubscriptionLife, unattendedSinceMs: number | null): LifeOutcome {
  if (life.unattendedSinceMs === unattendedSinceMs) return { type: 'SAME' };
  return { type: 'CHANGED', life: { ...life, unattendedSinceMs }, claim: 'SAME' };
}

function become(
  life: SubscriptionLife,
  state: SubscriptionState,
  reason: StateReason,
  unattendedSinceMs: number | null,
  changedAtMs: number,
): LifeOutcome {
  return { type: 'CHANGED', life: { ...life, state, reason, unattendedSinceMs, changedAtMs }, claim: 'CHANGED' };
}
