import { expect, test } from 'vitest';
import { FakedDelivery } from '../../bench/support/bare/faked-delivery.ts';
import { detailFamilies } from '../../src/metrics/detail.ts';
import { textOf } from '../../src/metrics/text.ts';
import { detail } from '../../src/server/detail.ts';
import { Once } from '../../src/time/once.ts';
import { systemClock } from '../../src/time/system.ts';

/** `npm run bench -- coordinator --only scrape` measures it with a million cursors. */

const cpuMsMax = 50;

async function cheapestOf(times: number, scrape: () => Promise<unknown>): Promise<number> {
  let cheapest = Infinity;
  for (let n = 0; n < times; n++) {
    const before = process.cpuUsage();
    await scrape();
    const { user, system } = process.cpuUsage(before);
    cheapest = Math.min(cheapest, (user + system) / 1_000);
  }
  return cheapest;
}

test(
  'a scrape visits no cursors: with 100,000 of them it takes less than 50 ms of CPU',
  { timeout: 60_000 },
  async () => {
    const faked = new FakedDelivery(1, 1_000);
    for (let at = 0; at < 100; at++) await faked.subscribe(`group-${at}`, () => undefined);
    const { views } = faked.delivery;
    const broker = {
      detail: {
        topics: () => faked.topicNumbers(),
        subscriptions: () => views.consumed(),
        appendAges: () => Promise.resolve([]),
      },
    };
    const scrape = async (): Promise<string> => {
      expect(views.counts().lag).toBe(100_000);
      return textOf(
        await detail(
          { families: detailFamilies, matches: () => true },
          { broker, lookups: new Once(), clock: systemClock },
        ),
      );
    };
    expect(await scrape()).toContain('millrace_group_lag_records{group="group-99",topic="topic-0"} 1000\n');
    expect(await cheapestOf(5, scrape)).toBeLessThan(cpuMsMax);
    await faked.delivery.stop();
  },
);
