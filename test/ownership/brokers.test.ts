import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { property } from '../coordinator/property.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { SimulatedBroker } from './simulated-broker.ts';
import { SimulatedDatabase } from './simulated-database.ts';

const stepMs = 50;

/**
 * Some brokers on one database, and what must hold of them at every moment (SPEC.md, invariant 8).
 */
class Site {
  readonly clock = new FakeClock();
  readonly database = new SimulatedDatabase(this.clock);
  brokers: SimulatedBroker[] = [];
  readonly #random: () => number;
  #started = 0;

  constructor(seed: number) {
    this.#random = sequence(seed);
    this.database.onEvicted = (broker) => {
      const owner = this.brokers.find(({ name }) => name === broker);
      assert(owner?.ownership.mayDeliver() !== true, 'the lock was taken from an owner that still delivers');
    };
  }

  start(): SimulatedBroker {
    const name = `broker-${this.#started++}`;
    const broker = new SimulatedBroker({ name, database: this.database, clock: this.clock, random: this.#random });
    this.brokers.push(broker);
    return broker;
  }

  get active(): SimulatedBroker | undefined {
    return this.brokers.find((broker) => broker.delivers && broker.ownership.epoch === this.database.epoch);
  }

  async pass(ms: number): Promise<void> {
    for (let passedMs = 0; passedMs < ms; passedMs += stepMs) {
      await this.clock.advance(Math.min(stepMs, ms - passedMs));
      this.check();
    }
  }

  /** How long it takes until a broker that satisfies `which` is active. */
  async until(which: (broker: SimulatedBroker) => boolean, msMax: number): Promise<number> {
    for (let passedMs = 0; passedMs <= msMax; passedMs += stepMs) {
      if (this.active !== undefined && which(this.active)) return passedMs;
      await this.pass(stepMs);
    }
    throw new Error(`nobody took over within ${msMax} ms`);
  }

  check(): void {
    for (const { epoch, latestEpoch } of this.database.commits) {
      assert(epoch >= latestEpoch, `epoch ${epoch} wrote after the takeover of epoch ${latestEpoch}`);
    }
    this.database.commits.length = 0;
    const owners = this.brokers.filter(({ ownership }) => ownership.state === 'ACTIVE');
    const epochs = owners.map(({ ownership }) => ownership.epoch);
    assert.equal(new Set(epochs).size, epochs.length, 'two brokers are active in one epoch');
  }

  /** Ends all faults, and restarts ended processes, as a supervisor would. */
  heal(): void {
    this.database.comeUp();
    for (const broker of this.brokers) if (broker.frozen) broker.thaw();
    this.supervise();
  }

  supervise(): void {
    const ended = this.brokers.filter(({ alive }) => !alive).length;
    this.brokers = this.brokers.filter(({ alive }) => alive);
    for (let n = 0; n < ended; n += 1) this.start();
  }
}

async function siteOf(brokers: number, seed = 1): Promise<Site> {
  const site = new Site(seed);
  for (let n = 0; n < brokers; n += 1) site.start();
  await site.until(() => true, 2_000);
  return site;
}

describe('a standby takes over', () => {
  test('a standby takes over within 2 s after the owner was killed', async () => {
    const site = await siteOf(3);
    await site.pass(4_321);
    const owner = site.active!;
    owner.kill();
    // The simulated predecessor may have a transaction of 5 s in flight, which is ended after 2 s
    // of patience.
    expect(await site.until((broker) => broker !== owner, 4_000)).toBeLessThanOrEqual(3_600);
  });

  test('a standby takes over within 10 s after the owner froze, and the owner steps down when it goes on', async () => {
    const site = await siteOf(3);
    await site.pass(4_321);
    const owner = site.active!;
    owner.freeze();
    expect(await site.until((broker) => broker !== owner, 10_000)).toBeGreaterThan(3_900);
    owner.thaw();
    expect(owner.delivers).toBe(false);
    await site.pass(1_000);
    expect(owner.lostReason).toMatch(/another broker has taken over/);
  });

  test('a standby takes over at once when the owner is asked to stop', async () => {
    const site = await siteOf(2);
    await site.pass(4_321);
    const owner = site.active!;
    void owner.stop();
    expect(await site.until((broker) => broker !== owner, 4_000)).toBeLessThanOrEqual(2_600);
    expect(owner.ownership.state).toBe('RELEASED');
  });

  test('only one of several standbys takes over, and the others go on standing by', async () => {
    const site = await siteOf(5);
    site.active!.kill();
    await site.pass(10_000);
    expect(site.brokers.map(({ ownership }) => ownership.state).sort()).toEqual([
      'ACTIVE',
      'ACTIVE',
      'STANDBY',
      'STANDBY',
      'STANDBY',
    ]);
    expect(site.brokers.filter(({ delivers }) => delivers)).toHaveLength(1);
    expect(site.database.epoch).toBe(2);
  });
});

describe('the owner keeps the database', () => {
  test.each([300, 3_000, 30_000])(
    'the owner keeps the database when the database restarts and is down for %i ms',
    async (downMs) => {
      const site = await siteOf(3);
      await site.pass(4_321);
      const owner = site.active!;
      site.database.goDown();
      await site.pass(downMs);
      site.database.comeUp();
      expect(await site.until(() => true, 1_000)).toBeLessThanOrEqual(1_000);
      await site.pass(10_000);
      expect(site.active).toBe(owner);
      expect(site.database.epoch).toBe(1);
    },
  );

  test('the owner keeps the database when its lock session is cut, however often and whenever', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer(),
        fc.array(fc.integer({ min: 0, max: 4_000 }), { maxLength: 12 }),
        async (seed, gaps) => {
          const site = await siteOf(3, seed);
          const owner = site.active!;
          for (const gapMs of gaps) {
            site.database.cutSessions(owner.name);
            await site.pass(gapMs);
          }
          await site.pass(3_000);
          expect([site.active, site.database.epoch, site.database.lockedBy]).toEqual([owner, 1, owner.name]);
        },
      ),
      property(40),
    );
  }, 120_000);

  test('the owner keeps the database when a standby finds the lock free during a slow migration', async () => {
    const site = await siteOf(2);
    const owner = site.active!;
    const standby = site.brokers.find((broker) => broker !== owner)!;
    standby.prepareMs = 5_000;
    owner.freeze();
    site.database.cutSessions(owner.name);
    await site.pass(1_500);
    expect([standby.ownership.state, site.database.lockedBy]).toEqual(['PREPARING', standby.name]);
    owner.thaw();
    await site.pass(10_000);
    expect([site.active, site.database.epoch, site.database.lockedBy]).toEqual([owner, 1, owner.name]);
  });

  test('the owner keeps the database when it freezes for a moment', async () => {
    const site = await siteOf(2);
    const owner = site.active!;
    owner.freeze();
    await site.pass(3_000);
    owner.thaw();
    await site.pass(8_000);
    expect(site.active).toBe(owner);
    expect(site.database.epoch).toBe(1);
  });
});

const trouble = fc.record({
  afterMs: fc.oneof(fc.integer({ min: 0, max: 1_000 }), fc.integer({ min: 0, max: 9_000 })),
  what: fc.constantFrom('freeze', 'thaw', 'kill', 'down', 'up', 'cut', 'cut one', 'stop', 'supervise'),
  who: fc.nat(2),
});

test('whatever happens to three brokers and their database, none writes after a takeover, and one owns it in the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.array(trouble, { maxLength: 15 }), async (seed, troubles) => {
      const site = new Site(seed);
      for (let n = 0; n < 3; n += 1) site.start();
      for (const { afterMs, what, who } of troubles) {
        await site.pass(afterMs);
        happen(site, what, site.brokers[who]);
      }
      site.heal();
      await site.pass(1_000);
      site.supervise();
      await site.until(() => true, 10_000);
      await site.pass(7_000);
      site.supervise();
      await site.pass(3_000);
      expect(site.brokers.filter(({ delivers }) => delivers)).toHaveLength(1);
      expect(site.brokers.filter(({ ownership }) => ownership.state === 'STANDBY')).toHaveLength(2);
    }),
    property(60),
  );
}, 120_000);

function happen(site: Site, what: string, broker: SimulatedBroker | undefined): void {
  if (what === 'down') site.database.goDown();
  if (what === 'up') site.database.comeUp();
  if (what === 'cut') {
    site.database.goDown();
    site.database.comeUp();
  }
  if (what === 'supervise') site.supervise();
  if (broker === undefined || !broker.alive) return;
  if (what === 'cut one') site.database.cutSessions(broker.name);
  if (what === 'freeze') broker.freeze();
  if (what === 'thaw') broker.thaw();
  if (what === 'kill') broker.kill();
  if (what === 'stop') void broker.stop();
}

/** Numbers in [0, 1) that follow from the seed (mulberry32). */
function sequence(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
