import { describe, expect, test } from 'vitest';
import { FillSite } from './fill-site.ts';
import { fills, type Fill, type FillName } from './fills.ts';

/**
 * Fills a broker until it refuses, kills it, and expects a broker of the same size to serve, and to
 * keep no more. `HOSTILE=full` fills with each kind and with three mixes. Otherwise there is one
 * kind, which only the ack log has at the kill, and a mix of those that fill fast.
 */

const isFull = process.env['HOSTILE'] === 'full';
const allNames = Object.keys(fills) as FillName[];
const names: readonly FillName[] = isFull ? allNames : ['attempts'];
const seeds = isFull ? [1, 2, 3] : [1];
const fast = ['topics', 'metadata', 'cursors', 'held', 'notes', 'holes', 'attempts'] as const;
const mixed: readonly FillName[] = isFull ? [...fast, 'groups', 'members'] : fast;
const timeout = isFull ? 1_800_000 : 600_000;
/** The steps after a restart are other ones than before. */
const later = 30_000;

const fillOf = (name: FillName): Fill => fills[name];

async function onSite(run: (site: FillSite) => Promise<void>): Promise<void> {
  const site = await FillSite.open();
  try {
    await run(site);
  } finally {
    await site.close();
  }
}

/** Kills and starts the broker, and writes what it took. */
async function restarted(site: FillSite, what: string): Promise<void> {
  await site.beat();
  site.expectWell();
  const took = await site.killAndStart();
  await site.beat();
  console.log(`${what}: ${took}`);
}

describe('a broker that was filled', () => {
  test.each(names)('what a broker full of %s has stored is served by the next one of its size', { timeout }, (name) =>
    onSite(async (site) => {
      const { prepare, step, together, unrejected, check } = fillOf(name);
      await prepare?.(site);
      const startedMs = performance.now();
      const done = await site.fill((n) => step(site, n), together, unrejected?.steps);
      if (unrejected !== undefined) await site.expectFull(unrejected.kind);
      const seconds = ((performance.now() - startedMs) / 1_000).toFixed(0);
      await check?.(site);
      await restarted(site, `${name}, ${done} steps in ${seconds} s`);
      await check?.(site);
      await site.fill((n) => step(site, later + n), together, unrejected === undefined ? undefined : 1);
      await restarted(site, `${name} again`);
    }),
  );
});

/** A small generator of numbers below `max` from a seed. */
function numbers(seed: number): (max: number) => number {
  let state = seed;
  return (max) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * max);
  };
}

test.each(seeds)(
  'what a broker full of a mix has stored is served by the next one of its size: seed %d',
  { timeout },
  (seed) =>
    onSite(async (site) => {
      const below = numbers(seed);
      for (const name of mixed) await fillOf(name).prepare?.(site);
      const left = new Set<FillName>(mixed);
      const steps = new Map<FillName, number>();
      for (let round = 0; left.size > 0; round++) {
        const name = [...left][below(left.size)]!;
        const { step, together } = fillOf(name);
        const from = steps.get(name) ?? 0;
        const count = 1 + below(together);
        steps.set(name, from + count);
        const full = await Promise.all(Array.from({ length: count }, (_, n) => site.isFull(step(site, from + n))));
        if (full.includes(true)) left.delete(name);
        if (round % 20 === 0) await site.beat();
      }
      expect(steps.size).toBe(mixed.length);
      await restarted(site, `mix ${seed}, ${[...steps].map(([name, count]) => `${count} ${name}`).join(', ')}`);
      // What was in flight, or refused, is not durable, so that there is room again.
      await site.fill((n) => fillOf('held').step(site, later + n), fillOf('held').together);
      await restarted(site, `mix ${seed} again`);
    }),
);
