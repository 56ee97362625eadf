import type { Client } from '@grpc/grpc-js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { joinByStream, waitForMembers } from '../../client/joining.ts';
import { call, connect } from '../../client/service-client.ts';
import type { MembersResult, MembersSpec } from '../../load/members.ts';
import { Histogram } from '../../support/histogram.ts';
import { endAll, stopAll, sum } from '../../support/measure/interval.ts';
import { startLoad } from '../../support/load-process.ts';
import type { LoadProcess } from '../../support/load-process.ts';
import type { Site } from '../../support/site.ts';
import { delay, waitFor } from '../../support/timing.ts';

/**
 * Longer than the coordinator waits for further changes, so that each join meets a group at rest.
 */
const restMs = 100;
/**
 * Connections of each process. Members share them, because 1,000 sockets would measure the kernel.
 */
const connections = 5;

export interface GroupOfStreams {
  /** The time from the first open stream to the last Assigned, as the clients see it. */
  readonly joinMs: number;
  end(): Promise<void>;
}

/** Starts members in two processes, which join one group at once. */
export async function startGroup(
  site: Site,
  group: string,
  topics: readonly string[],
  size: { readonly members: number; readonly partitions: number },
): Promise<GroupOfStreams> {
  const loads: readonly LoadProcess<MembersResult>[] = await Promise.all(
    [Math.ceil(size.members / 2), Math.floor(size.members / 2)].map((members) =>
      startLoad<MembersSpec, MembersResult>('members', {
        address: site.broker.grpcAddress,
        topics,
        group,
        members,
        connections,
      }),
    ),
  );
  for (const load of loads) load.start();
  const client = connect(site.broker.grpcAddress);
  await waitForMembers(client, group, size.members);
  client.close();
  let results: MembersResult[] = [];
  // The group is at rest before its last events have reached all members.
  await waitFor(`the members of ${group} to have ${size.partitions} partitions`, 60_000, 10, async () => {
    results = await Promise.all(loads.map((load) => load.collect()));
    return sum(results, ({ partitions }) => partitions) === size.partitions;
  });
  const startedUs = Math.min(...results.map((result) => result.startedUs));
  return {
    joinMs: (Math.max(...results.map((result) => result.assignedUs)) - startedUs) / 1000,
    end: async () => {
      await stopAll(loads);
      await endAll(loads);
    },
  };
}

/** One more member joins a group at rest and leaves again, `times` times. */
export async function rejoin(
  client: Client,
  group: string,
  topics: readonly string[],
  { members, times }: { readonly members: number; readonly times: number },
): Promise<Histogram> {
  const histogram = new Histogram();
  const warmUp = Math.ceil(times / 5);
  for (let i = 0; i < warmUp + times; i++) {
    await waitForMembers(client, group, members);
    await delay(restMs);
    const late = await joinByStream(client, group, topics);
    if (i >= warmUp) histogram.record(late.joinMs * 1000);
    await waitForMembers(client, group, members + 1);
    await delay(restMs);
    late.leave();
  }
  await waitForMembers(client, group, members);
  return histogram;
}

/** @returns the names of the topics. */
export async function makeTopics(client: Client, prefix: string, count: number, partitions: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, at) => `${prefix}-${at}`);
  for (const name of names) await call(client, TopicService.method.createTopic, { topic: { name, partitions } });
  return names;
}
