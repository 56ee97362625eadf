import { describe, expect, test } from 'vitest';
import { FillSite } from './fill-site.ts';
import { fills, type Fill, type FillName } from './fills.ts';

/**
 * Fills a broker until it refuses, kills it, and expects a broker of the same size to serve.
 * `HOSTILE=full` fills with each kind and with three mixes. Otherwise two kinds and a mix are
 * filled.
 */

const isFull = process.env['HOSTILE'] === 'full';
const allNames = Object.keys(fills) as FillName[];
const names: readonly FillName[] = isFull ? allNames : ['held', 'attempts'];
const seeds = isFull ? [1, 2, 3] : [1];
const mixed = ['topics', 'groups', 'members', 'metadata', 'cursors', 'held', 'notes'] as const;
const timeout = 600_000;
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

async function restarted(site: FillSite): Promise<void> {
  await site.beat();
  site.expectWell();
  await site.killAndStart();
  await site.beat();
}

describe('a broker that was filled', () => {
  test.each(names)('a database full of %s cannot be served by the next broker of the same size', { timeout }, (name) =>
    onSite(async (site) => {
      const { prepare, step, together, steps } = fillOf(name);
      await prepare?.(site);
      if (steps === undefined) await site.untilFull((n) => step(site, n), together);
      else for (let n = 0; n < steps; n++) await step(site, n);
      await restarted(site);
      if (steps === undefined) await site.untilFull((n) => step(site, later + n), together, 40);
      else await step(site, later);
      await restarted(site);
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

test.each(seeds)('a database full of a mix cannot be served by the next broker: seed %d', { timeout }, (seed) =>
  onSite(async (site) => {
    const below = numbers(seed);
    for (const [name, count] of [
      ['one', 1],
      ['wide', 1_000],
      ['noted', 500],
    ] as const)
      await site.createTopic(name, count);
    const left = new Set<FillName>(mixed);
    const steps = new Map<FillName, number>();
    for (let round = 0; left.size > 0; round++) {
      const name = [...left][below(left.size)]!;
      for (let n = below(20); n >= 0 && left.has(name); n--) {
        const at = steps.get(name) ?? 0;
        steps.set(name, at + 1);
        if (await site.isFull(fillOf(name).step(site, at))) left.delete(name);
      }
      if (round % 20 === 0) await site.beat();
    }
    expect(steps.size).toBe(mixed.length);
    await restarted(site);
    expect(await site.isFull(fillOf('held').step(site, later))).toBe(true);
    await restarted(site);
  }),
);
