import type { Client } from '@grpc/grpc-js';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { SubscribeResponse } from '../../gen/millrace/v1/broker_pb.js';
import { GroupService, GroupState } from '../../gen/millrace/v1/group_pb.js';
import { waitFor } from '../support/timing.ts';
import { call, openServerStream } from './service-client.ts';

/** A member that has joined with a stream and does not ack. */
export interface JoinedStream {
  /** The time from the call to the first Assigned with partitions. */
  readonly joinMs: number;
  leave(): void;
}

/** @throws Error if the member has no partition after a minute */
export async function joinByStream(client: Client, group: string, topics: readonly string[]): Promise<JoinedStream> {
  const startMs = performance.now();
  const stream = openServerStream(client, BrokerService.method.subscribe, {
    group,
    topics: [...topics],
    clientId: 'late',
    assignmentChanges: true,
  });
  let joinMs: number | null = null;
  let failed: Error | null = null;
  stream.on('data', ({ event }: SubscribeResponse) => {
    if (event.case === 'assigned' && event.value.partitions.length > 0) joinMs ??= performance.now() - startMs;
  });
  stream.on('error', (error) => {
    failed = error;
  });
  await waitFor(`a member of ${group} to be assigned something`, 60_000, 1, () => {
    if (failed !== null) throw failed;
    return joinMs !== null;
  });
  return {
    joinMs: joinMs!,
    leave: () => {
      stream.cancel();
    },
  };
}

/** Each check is a call. More frequent calls would distort the measurement of a large group. */
const lookEveryMs = 100;

/** Waits until the group has `members` members and is at rest. */
export async function waitForMembers(client: Client, group: string, members: number): Promise<void> {
  const atRest = members === 0 ? GroupState.EMPTY : GroupState.STABLE;
  await waitFor(`${group} to be at rest with ${members} members`, 120_000, lookEveryMs, async () => {
    const { groups } = await call(client, GroupService.method.listGroups, { pageSize: 1_000 });
    const found = groups.find(({ name }) => name === group);
    return found?.memberCount === members && found.state === atRest;
  });
}
