import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createdLife, deadAtMs, step, type LifeInput, type SubscriptionLife } from '../../src/subscription/life.ts';

/** What happens to a subscription, after so many milliseconds. */
interface Happening {
  readonly afterMs: number;
  readonly type: 'COME' | 'GO' | Exclude<LifeInput['type'], 'ATTENDED' | 'LEFT'>;
  /** The time from the last sign of life of the last member to its removal. */
  readonly silentMs: number;
  readonly deadAfterMs: number | null;
}

const happening: fc.Arbitrary<Happening> = fc.record({
  afterMs: fc.integer({ min: 0, max: 300_000 }),
  type: fc.constantFrom('COME', 'GO', 'LOOK', 'PAUSE', 'RESUME', 'UPDATE', 'CANCEL'),
  silentMs: fc.integer({ min: 0, max: 60_000 }),
  deadAfterMs: fc.option(fc.integer({ min: 30_000, max: 600_000 })),
});

const history = fc.array(happening, { maxLength: 40 });

/** A subscription with what an observer knows about its group. */
class Observed {
  life: SubscriptionLife;
  nowMs = 1_000_000;
  isAttended = false;
  hadMember = false;
  /** The last sign of life of a member, or the end of a pause since. */
  lastSignMs: number | null = null;

  constructor(deadAfterMs: number | null) {
    this.life = createdLife(deadAfterMs, this.nowMs);
  }

  happen({ afterMs, type, silentMs, deadAfterMs }: Happening): void {
    this.nowMs += afterMs;
    const input = this.#inputOf(type, silentMs, deadAfterMs);
    if (input !== null) this.feed(input);
  }

  feed(input: LifeInput): void {
    const before = this.life;
    const outcome = step(before, input, this.nowMs);
    if (outcome.type === 'CHANGED') this.life = outcome.life;
    this.#check(before, input, outcome);
    const again = step(this.life, input, this.nowMs);
    expect(again.type, `${input.type} repeated`).not.toBe('CHANGED');
  }

  #inputOf(type: Happening['type'], silentMs: number, deadAfterMs: number | null): LifeInput | null {
    switch (type) {
      case 'COME':
        this.isAttended = this.hadMember = true;
        this.lastSignMs = null;
        return { type: 'ATTENDED' };
      case 'GO':
        if (!this.hadMember) return null;
        if (this.isAttended) this.lastSignMs = this.nowMs - silentMs;
        this.isAttended = false;
        // A write whose answer was lost is repeated, with another time.
        return { type: 'LEFT', heardAtMs: this.nowMs - silentMs };
      case 'RESUME':
        if (this.life.state === 'PAUSED' && this.lastSignMs !== null) this.lastSignMs = this.nowMs;
        return { type, isAttended: this.isAttended };
      case 'UPDATE':
        return { type, deadAfterMs };
      case 'LOOK':
      case 'PAUSE':
      case 'CANCEL':
        return { type };
    }
  }

  #check(before: SubscriptionLife, input: LifeInput, outcome: ReturnType<typeof step>): void {
    const after = this.life;
    if (before.state === 'CANCELLED') expect(after).toEqual(before);
    if (outcome.type !== 'CHANGED') expect(after).toBe(before);
    else expect(outcome.claim === 'CHANGED').toBe(after.state !== before.state);
    if (after.state === 'DEAD' && before.state !== 'DEAD') this.#checkDeath(before, input);
    if (input.type === 'ATTENDED') expect(after.state).not.toBe('DEAD');
    if (after.state === 'CANCELLED' || this.isAttended) expect(after.unattendedSinceMs).toBeNull();
    else if (after.state !== 'DEAD') expect(after.unattendedSinceMs).toBe(this.lastSignMs);
  }

  #checkDeath(before: SubscriptionLife, input: LifeInput): void {
    expect(input.type).toBe('LOOK');
    expect(before.state).toBe('ACTIVE');
    expect(this.hadMember).toBe(true);
    expect(this.nowMs - this.lastSignMs!).toBeGreaterThanOrEqual(before.deadAfterMs!);
  }
}

function live(happenings: readonly Happening[], deadAfterMs: number | null): Observed {
  const observed = new Observed(deadAfterMs);
  for (const one of happenings) observed.happen(one);
  return observed;
}

test('whatever happens to a subscription, it dies only of a long time without a member, and CANCELLED is final', () => {
  fc.assert(
    fc.property(history, fc.option(fc.integer({ min: 30_000, max: 600_000 })), (happenings, deadAfterMs) => {
      live(happenings, deadAfterMs);
    }),
    { numRuns: 2_000 },
  );
});

test('a subscription that can die is DEAD at the first look after its time, and at none before', () => {
  fc.assert(
    fc.property(history, fc.integer({ min: 30_000, max: 600_000 }), (happenings, deadAfterMs) => {
      const observed = live(happenings, deadAfterMs);
      const atMs = deadAtMs(observed.life);
      fc.pre(atMs !== null && atMs > observed.nowMs);
      observed.nowMs = atMs - 1;
      observed.feed({ type: 'LOOK' });
      expect(observed.life.state).toBe('ACTIVE');
      observed.nowMs = atMs;
      observed.feed({ type: 'LOOK' });
      expect(observed.life.state).toBe('DEAD');
    }),
  );
});

test('a group that flaps for an hour keeps its subscription ACTIVE', () => {
  const observed = new Observed(240_000);
  const flap: Happening[] = (['COME', 'LOOK', 'GO', 'LOOK'] as const).map((type) => {
    return { afterMs: 100_000, type, silentMs: 30_000, deadAfterMs: null };
  });
  for (let round = 0; round < 9; round++) for (const one of flap) observed.happen(one);
  expect(observed.life).toMatchObject({ state: 'ACTIVE', reason: 'CREATED' });
});

test('a member that comes back makes a DEAD subscription ACTIVE, however often it has died', () => {
  fc.assert(
    fc.property(history, (happenings) => {
      const observed = live(
        happenings.filter(({ type }) => type !== 'CANCEL'),
        240_000,
      );
      observed.happen({ afterMs: 0, type: 'COME', silentMs: 0, deadAfterMs: null });
      expect(['ACTIVE', 'PAUSED']).toContain(observed.life.state);
    }),
  );
});
