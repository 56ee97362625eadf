import { monitorEventLoopDelay } from 'node:perf_hooks';
import { detailFamilies } from '../../src/metrics/detail.ts';
import { textOf } from '../../src/metrics/text.ts';
import { detail } from '../../src/server/detail.ts';
import { Once } from '../../src/time/once.ts';
import { systemClock } from '../../src/time/system.ts';
import { FakedDelivery } from '../support/bare/faked-delivery.ts';
import { runLoad } from '../support/load-process.ts';

/** Scrapes of a broker with many cursors, in a process of their own, without a database. */
export interface ScrapeSpec {
  readonly groups: number;
  readonly topics: number;
  readonly partitionsPerTopic: number;
  readonly scrapes: number;
}

/** The mean CPU of a scrape, and the longest standstill of the event loop during all of them. */
export interface ScrapeCost {
  readonly cpuMs: number;
  readonly longestMs: number;
}

export interface ScrapeResult {
  readonly sums: ScrapeCost;
  readonly detail: ScrapeCost;
}

/** The pauses between the scrapes are left out, because the watch of the loop wakes in them. */
async function costOf(times: number, pauseMs: number, scrape: () => Promise<unknown>): Promise<ScrapeCost> {
  await scrape();
  globalThis.gc?.();
  let cpuUs = 0;
  let longestNs = 0;
  for (let n = 0; n < times; n++) {
    await new Promise((resume) => setTimeout(resume, pauseMs));
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const before = process.cpuUsage();
    await scrape();
    const { user, system } = process.cpuUsage(before);
    cpuUs += user + system;
    // The watch sees a standstill when the loop turns again.
    await new Promise((resume) => setTimeout(resume, 2));
    delay.disable();
    longestNs = Math.max(longestNs, delay.max);
  }
  return { cpuMs: cpuUs / 1_000 / times, longestMs: longestNs / 1_000_000 };
}

async function run({ groups, topics, partitionsPerTopic, scrapes }: ScrapeSpec): Promise<ScrapeResult> {
  const faked = new FakedDelivery(topics, partitionsPerTopic);
  for (let at = 0; at < groups; at++) await faked.subscribe(`group-${at}`, () => undefined);
  const { views } = faked.delivery;
  const broker = {
    detail: {
      topics: () => faked.topicNumbers(),
      subscriptions: () => views.consumed(),
      appendAges: () => Promise.resolve([]),
    },
  };
  const request = { families: detailFamilies, matches: () => true };
  return {
    // The sums are kept for a second, so each of these counts all groups.
    sums: await costOf(scrapes, 1_050, () => Promise.resolve(views.counts())),
    detail: await costOf(scrapes, 0, async () =>
      textOf(await detail(request, { broker, lookups: new Once(), clock: systemClock })),
    ),
  };
}

runLoad<ScrapeSpec, ScrapeResult>(async (spec) => {
  const result = await run(spec);
  return { start: () => undefined, mark: () => undefined, collect: () => result, stop: () => Promise.resolve() };
});
