import type { ScrapeCost, ScrapeResult, ScrapeSpec } from '../../load/scrape.ts';
import { measureApart } from '../../support/load-process.ts';
import { profileFlags, type Bench } from '../../support/site.ts';

type Shape = Omit<ScrapeSpec, 'scrapes'>;

/** The last one has many subscriptions, because a scrape visits those. */
const shapes: Readonly<Record<Bench['size'], readonly Shape[]>> = {
  smoke: [{ groups: 10, topics: 1, partitionsPerTopic: 1_000 }],
  full: [
    { groups: 100, topics: 10, partitionsPerTopic: 1_000 },
    { groups: 10_000, topics: 1, partitionsPerTopic: 100 },
  ],
};

/** Measures what a scrape costs a broker with many cursors. */
export async function runScrape(bench: Bench): Promise<void> {
  const rows = [];
  for (const shape of shapes[bench.size]) {
    const cursors = shape.groups * shape.topics * shape.partitionsPerTopic;
    bench.say(`scrapes of ${cursors} cursors of ${shape.groups} groups`);
    const flags = ['--expose-gc', '--max-old-space-size=6144', ...profileFlags(bench)];
    const { sums, detail } = await measureApart<ScrapeSpec, ScrapeResult>('scrape', { ...shape, scrapes: 5 }, flags);
    const cells = ({ cpuMs, longestMs }: ScrapeCost): number[] => [cpuMs, longestMs];
    rows.push([cursors, shape.groups, ...cells(sums), ...cells(detail)]);
    for (const { cpuMs } of [sums, detail]) bench.report.atMost(`scrape: CPU, ${cursors} cursors`, 50, cpuMs, ' ms');
  }
  bench.report.section(
    'Scrapes: the sums of /metrics, and /metrics/detail',
    ['cursors', 'groups', 'sums CPU ms', 'longest step ms', 'detail CPU ms', 'longest step ms'],
    rows,
    ['Every group has lag, and the database answers at once. A step by the clock, so other processes lengthen it.'],
  );
}
