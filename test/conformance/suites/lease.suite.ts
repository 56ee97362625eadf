import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LeaseStore } from '../../../src/ownership/store.ts';
import type { LeaseSite } from '../site.ts';

const patienceMs = 2_000;
const frozenMs = 6_000;

/** The lease and its lock, as every LeaseStore keeps them. */
export function describeLease(open: () => Promise<LeaseSite> | LeaseSite): void {
  let site: LeaseSite;

  beforeEach(async () => {
    site = await open();
  });

  afterEach(() => site.close());

  /** Makes a broker that has taken over the lease, and the lock if it is free. */
  async function owner(broker: string): Promise<LeaseStore> {
    const lease = site.lease(broker);
    await lease.tryLock();
    expect(await lease.takeOver((await lease.read()).lease, patienceMs)).toBeGreaterThan(0);
    return lease;
  }

  describe('a database that was never owned', () => {
    test('a database that was never owned has no lease, and its lock is free for one broker', async () => {
      const lease = site.lease('one');
      expect(await lease.read()).toEqual({ lease: null, locked: false, lockedBy: null });
      for (const _ of ['once', 'again']) expect(await lease.tryLock()).toBe(true);
      expect(await lease.read()).toEqual({ lease: null, locked: true, lockedBy: { broker: 'one' } });
      const two = site.lease('two');
      expect(await two.tryLock()).toBe(false);
      expect(await two.read()).toEqual({ lease: null, locked: false, lockedBy: { broker: 'one' } });
    });

    test('only the holder of the lock can release it, and then another broker gets it', async () => {
      const [one, two] = [site.lease('one'), site.lease('two')];
      expect(await one.tryLock()).toBe(true);
      await two.unlock();
      expect(await two.tryLock()).toBe(false);
      for (const _ of ['once', 'again']) await one.unlock();
      expect(await two.tryLock()).toBe(true);
      expect(await one.tryLock()).toBe(false);
    });
  });

  describe('a lease', () => {
    beforeEach(() => site.prepare());

    test('a lease begins with epoch 1, and each takeover raises the epoch', async () => {
      const one = await owner('one');
      expect((await one.read()).lease).toMatchObject({ broker: 'one', epoch: 1 });
      expect((await one.read()).lease!.ageMs).toBeLessThan(1_000);
      expect(await one.renew(1)).toBe(true);
      await one.release(1);
      const two = await owner('two');
      expect((await two.read()).lease).toMatchObject({ broker: 'two', epoch: 2 });
    });

    test('a lease ages by the clock of the database, and a renewal makes it young under a new name', async () => {
      const one = await owner('one');
      const { renewal } = (await one.read()).lease!;
      site.pass(5_000);
      const old = (await one.read()).lease!;
      expect([old.ageMs >= 5_000, old.ageMs < 6_000, old.renewal]).toEqual([true, true, renewal]);
      expect(await one.renew(1)).toBe(true);
      const young = (await one.read()).lease!;
      expect(young.ageMs).toBeLessThan(1_000);
      expect(young.renewal).not.toBe(renewal);
    });

    test('a released lease is taken over at once, with its lock', async () => {
      const one = await owner('one');
      const two = site.lease('two');
      expect(await two.tryLock()).toBe(false);
      const { renewal } = (await two.read()).lease!;
      await one.release(1);
      await site.until(() => two.tryLock());
      const { lease } = await two.read();
      expect(lease).toMatchObject({ broker: 'one', epoch: 1, ageMs: Infinity });
      expect(lease!.renewal).not.toBe(renewal);
      expect(await two.takeOver(lease, patienceMs)).toBe(2);
    });

    test('a lease that two brokers saw is taken over by one of them', async () => {
      await (await owner('one')).release(1);
      const [two, three] = [site.lease('two'), site.lease('three')];
      const seen = (await two.read()).lease;
      const epochs = await Promise.all([two.takeOver(seen, patienceMs), three.takeOver(seen, patienceMs)]);
      expect(epochs.filter((epoch) => epoch !== null)).toEqual([2]);
    });

    test('a lease is not taken over by a broker that saw it before its last renewal', async () => {
      const one = await owner('one');
      const two = site.lease('two');
      const seen = (await two.read()).lease;
      site.pass(1);
      expect(await one.renew(1)).toBe(true);
      expect(await two.takeOver(seen, patienceMs)).toBeNull();
      expect(await one.renew(1)).toBe(true);
      expect((await two.read()).lease).toMatchObject({ broker: 'one', epoch: 1 });
    });

    test('a lease of another broker or epoch is neither renewed nor released', async () => {
      const one = await owner('one');
      const two = site.lease('two');
      expect(await two.takeOver((await two.read()).lease, patienceMs)).toBe(2);
      expect(await one.renew(1)).toBe(false);
      expect(await one.renew(2)).toBe(false);
      expect(await two.renew(1)).toBe(false);
      await one.release(1);
      expect((await two.read()).lease!.ageMs).toBeLessThan(5_000);
      expect(await two.renew(2)).toBe(true);
    });

    test('the lock of a frozen owner can be taken when its lease is old, and not before', async () => {
      const one = await owner('one');
      const unlocked = Promise.withResolvers<void>();
      one.onUnlocked(unlocked.resolve);
      const two = site.lease('two');
      expect(await two.evict('one', frozenMs)).toBe(true);
      expect(await two.tryLock()).toBe(false);
      site.pass(frozenMs);
      expect(await two.evict('somebody else', frozenMs)).toBe(true);
      expect(await two.tryLock()).toBe(false);
      expect(await two.evict('one', frozenMs)).toBe(true);
      await unlocked.promise;
      await site.until(() => two.tryLock());
    });

    test('an owner with a cut session keeps its lease, and takes the lock again', async () => {
      const one = await owner('one');
      const unlocked = Promise.withResolvers<void>();
      one.onUnlocked(unlocked.resolve);
      await site.cut('one');
      await unlocked.promise;
      await site.until(() => one.tryLock());
      expect(await one.renew(1)).toBe(true);
    });
  });
}
