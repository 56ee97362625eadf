import { startLoad } from '../support/load-process.ts';
import type { LoadProcess } from '../support/load-process.ts';
import { createPeerSchema, emptyPeerTables } from '../support/bare/peer-queue.ts';
import { bySize, selected, withBroker } from '../support/site.ts';
import type { Bench, Site } from '../support/site.ts';
import type { Cell } from '../support/table.ts';
import type { ConsumeResult } from '../load/consume.ts';
import type { PeerConsumeSpec } from '../load/peer-consume.ts';
import type { PeerPublishSpec } from '../load/peer-publish.ts';
import type { PublishResult } from '../load/publish.ts';
import { settle } from './fanout.ts';
import type { FanOutResult } from './fanout.ts';
import { startConsumers, startPublishers } from './millrace-load.ts';

const partitions = 6;
const batch = 100;
const valueBytes = 1024;

interface Work {
  readonly name: string;
  readonly groups: number;
  /** Members of each group, and consumers of each group of the peer. */
  readonly members: number;
}

/** Measures the same work on Millrace and on the usual queue, in turn on one database server. */
export async function runPeer(bench: Bench): Promise<void> {
  await withBroker(bench, 'peer', async (site) => {
    const name = `bench_peer_queue_${process.pid}`;
    const peerUrl = await bench.database.create(name);
    await createPeerSchema(peerUrl);
    const rows: Cell[][] = [];
    for (const work of bySize(bench, { smoke: smokeWorks, full: fullWorks }).filter((w) => selected(bench, w.name))) {
      bench.say(`${work.name}: peer`);
      const peer = await onPeer(bench, peerUrl, work);
      bench.say(`${work.name}: Millrace`);
      const millrace = await onMillrace(bench, site, work);
      rows.push(row(work, 'peer', peer, peer), row(work, 'Millrace', millrace, peer));
    }
    bench.report.section('Against a table with FOR UPDATE SKIP LOCKED: 1 KiB, batches of 100', columns, rows, [
      'Peer: payload stored once, one row per message and group, batched insert, batched claim and delete, pipelined.',
      'Everything published is consumed and committed; CPU in microseconds for each delivery, all processes.',
    ]);
    await bench.database.drop(name);
  });
}

const smokeWorks: readonly Work[] = [{ name: 'fan-out to 4', groups: 4, members: 2 }];
const fullWorks: readonly Work[] = [
  { name: 'queue', groups: 1, members: 4 },
  { name: 'fan-out to 4', groups: 4, members: 2 },
  { name: 'fan-out to 16', groups: 16, members: 2 },
];

const columns = [
  'work',
  'by',
  'groups',
  'consumers',
  'published/s',
  'delivered/s',
  'delivered, times the peer',
  'ack p50 ms',
  'WAL B/msg',
  'CPU all',
  'database cores',
];

function row(work: Work, by: string, result: FanOutResult, peer: FanOutResult): Cell[] {
  return [
    work.name,
    by,
    work.groups,
    work.groups * work.members,
    Math.round(result.publishedPerSecond),
    Math.round(result.deliveredPerSecond),
    (result.deliveredPerSecond / peer.deliveredPerSecond).toFixed(2),
    result.ack.percentileUs(0.5) / 1000,
    Math.round(result.cost.walBytes / result.published),
    (result.cost.totalCpuMs * 1000) / result.delivered,
    result.cost.databaseCpuMs / result.cost.elapsedMs,
  ];
}

async function onMillrace(bench: Bench, site: Site, work: Work): Promise<FanOutResult> {
  return site.withTopic(partitions, async (topic) => {
    const load = { partitions, groupCount: work.groups, membersPerGroup: work.members };
    const consumers = await startConsumers(site, topic, load);
    const publishers = await startPublishers(site, topic, { batch, valueBytes, limited: true, seed: bench.seed });
    return settle(bench, site.broker.pid, publishers, consumers);
  });
}

async function onPeer(bench: Bench, databaseUrl: string, work: Work): Promise<FanOutResult> {
  await emptyPeerTables(databaseUrl);
  const publisher = await startLoad<PeerPublishSpec, PublishResult>('peer-publish', {
    databaseUrl,
    inFlight: 8,
    batch,
    valueBytes,
    groups: work.groups,
    seed: bench.seed,
  });
  return settle(bench, null, [publisher], await peerConsumers(databaseUrl, work));
}

/** Uses as many processes as for Millrace: two, or one for a single group. */
function peerConsumers(databaseUrl: string, work: Work): Promise<LoadProcess<ConsumeResult>[]> {
  const groups = Array.from({ length: work.groups }, (_, i) => i + 1);
  const processes = Math.min(2, work.groups);
  return Promise.all(
    Array.from({ length: processes }, (_, index) =>
      startLoad<PeerConsumeSpec, ConsumeResult>('peer-consume', {
        databaseUrl,
        groups: groups.filter((group) => group % processes === index),
        consumersPerGroup: work.members,
        batch,
      }),
    ),
  );
}
