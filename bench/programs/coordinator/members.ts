import { connect } from '../../client/service-client.ts';
import { bySize, withBroker } from '../../support/site.ts';
import type { Bench, Site } from '../../support/site.ts';
import { makeTopics, rejoin, startGroup } from './streams.ts';

/** Measures groups whose members are streams, through gRPC with a real database. */
export async function runMembers(bench: Bench): Promise<void> {
  const work = async (site: Site): Promise<void> => {
    await emptyGroup(bench, site);
    await steadyGroup(bench, site);
  };
  await withBroker(bench, 'members', work, { flags: ['--partitions-max', '10000'] });
}

async function emptyGroup(bench: Bench, site: Site): Promise<void> {
  const members = bySize(bench, { smoke: 50, full: 1_000 });
  const rows: number[][] = [];
  for (const partitions of bySize(bench, { smoke: [100], full: [1_000, 10_000] })) {
    bench.say(`${members} members join an empty group over ${partitions} partitions`);
    await site.withTopic(partitions, async (topic) => {
      const group = await startGroup(site, `${topic}-group`, [topic], { members, partitions });
      rows.push([members, partitions, group.joinMs]);
      bench.report.atMost(`gRPC: ${members} members join, ${partitions} partitions`, 10_000, group.joinMs, 'ms');
      await group.end();
    });
  }
  bench.report.section(
    'Through gRPC: members that all join an empty group at once, as streams',
    ['members', 'partitions', 'until all have theirs, ms'],
    rows,
  );
}

async function steadyGroup(bench: Bench, site: Site): Promise<void> {
  const members = bySize(bench, { smoke: 10, full: 100 });
  const partitions = 10 * (members + 1);
  const times = bySize(bench, { smoke: 2, full: 20 });
  bench.say(`one more member joins a group of ${members}`);
  const client = connect(site.broker.grpcAddress);
  const topics = await makeTopics(client, 'steady', 1, partitions);
  const group = await startGroup(site, 'steady', topics, { members, partitions });
  const { p50Ms, p99Ms, maxMs } = (await rejoin(client, 'steady', topics, { members, times })).percentiles();
  await group.end();
  client.close();
  bench.report.section(
    'Through gRPC: one more member joins a group at rest, until its first Assigned with partitions',
    ['members', 'partitions', 'times', 'p50 ms', 'p99 ms', 'max ms'],
    [[members, partitions, times, p50Ms, p99Ms, maxMs]],
  );
  bench.report.atMost(`gRPC: a member joins ${members}, p99`, 200, p99Ms, 'ms');
}
