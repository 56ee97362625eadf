import { waitForMembers } from '../../client/joining.ts';
import { connect } from '../../client/service-client.ts';
import { bySize, withBroker } from '../../support/site.ts';
import type { Bench, Site } from '../../support/site.ts';
import { processUsage } from '../../support/measure/usage.ts';
import { makeTopics, rejoin, startGroup } from './streams.ts';

const partitionsPerTopic = 1_000;
/** The heap of `npm start` has no room for 100,000 partitions with a cursor each. */
const heapMib = 512;

/** Measures joins, and the broker's memory, for one group over very many partitions. */
export async function runLarge(bench: Bench): Promise<void> {
  const topicCount = bySize(bench, { smoke: 2, full: 100 });
  const times = bySize(bench, { smoke: 2, full: 20 });
  const partitions = topicCount * partitionsPerTopic;
  const rows: number[][] = [];
  const work = async (site: Site): Promise<void> => {
    const client = connect(site.broker.grpcAddress);
    bench.say(`${topicCount} topics of ${partitionsPerTopic} partitions`);
    const topics = await makeTopics(client, 'large', topicCount, partitionsPerTopic);
    for (const members of bySize(bench, { smoke: [10], full: [10, 100, 900] })) {
      bench.say(`one more member joins ${members} over ${partitions} partitions`);
      const group = await startGroup(site, 'large', topics, { members, partitions });
      const { p50Ms, p99Ms, maxMs } = (await rejoin(client, 'large', topics, { members, times })).percentiles();
      await group.end();
      await waitForMembers(client, 'large', 0);
      const peakMib = processUsage(site.broker.pid)?.memoryPeakMib ?? NaN;
      rows.push([members, partitions, group.joinMs, times, p50Ms, p99Ms, maxMs, peakMib]);
      bench.report.atMost(`gRPC: a member joins ${members}, ${partitions} partitions`, 500, maxMs, 'ms');
    }
    client.close();
  };
  await withBroker(bench, 'large', work, { heapMib });
  bench.report.section(
    'Through gRPC: one group over very many partitions',
    ['members', 'partitions', 'all join, ms', 'times', 'one join p50 ms', 'p99 ms', 'max ms', 'broker peak MiB'],
    rows,
    [
      'All join: into an empty group, at once, until every partition has come to its member. It is the same group, with other members.',
    ],
  );
}
