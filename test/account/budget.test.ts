import fc from 'fast-check';
import { expect, test } from 'vitest';
import { budgetOf, processBytes } from '../../src/account/budget.ts';
import { connectionBytes, connectionHeapBytes, kinds, poolShares, type KindName } from '../../src/account/kinds.ts';
import { limits } from '../../src/limits/limits.ts';

const mib = 1_048_576;

test('the pools of the heap leave too little room for what is collected', () => {
  expect(poolShares.kept + poolShares.passing).toBeLessThanOrEqual(0.75);
});

test('the pools of the heap and all connections leave no eighth of the heap', () => {
  const connections = (kinds.connections.limit.share / connectionBytes) * connectionHeapBytes;
  expect(poolShares.kept + poolShares.passing + connections).toBeLessThanOrEqual(7 / 8);
});

test('a kind may have more than its pool, and its limit says nothing', () => {
  fc.assert(
    fc.property(fc.integer({ min: 16, max: 65_536 }), fc.nat(1_024), fc.nat(1_024), (heapMib, queue, tail) => {
      const budget = budgetOf(heapMib * mib, { publishQueueBytesMax: queue * mib, tailCacheBytesMax: tail * mib });
      for (const [name, { pool }] of Object.entries(kinds)) {
        expect(budget.kinds[name as KindName], name).toBeLessThanOrEqual(budget.pools[pool]);
        expect(budget.kinds[name as KindName], name).toBeGreaterThanOrEqual(0);
      }
    }),
  );
});

test('the default heap has another size of its pools than the documents say', () => {
  const { pools, kinds: of } = budgetOf(256 * mib, limits);
  expect(pools).toEqual({ kept: 128 * mib, passing: 64 * mib, buffers: 172 * mib });
  expect(of.connections).toBe(4_096 * 24_576);
  expect(of.publishes).toBe(64 * mib);
});

test('a broker with the default heap may become larger than a machine of 600 MiB allows', () => {
  expect(processBytes(256 * mib, limits)).toBeLessThanOrEqual(600 * mib);
});

test('with a small heap one connection cannot send its largest request', () => {
  const { kinds: of } = budgetOf(32 * mib, limits);
  expect(of.bodies).toBeGreaterThanOrEqual(limits.jsonRequestBytesMax);
  expect(of.bodies).toBeGreaterThanOrEqual(kinds.bodies.ownerBytesMax);
});
