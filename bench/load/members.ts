import type { Client } from '@grpc/grpc-js';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { SubscribeResponse } from '../../gen/millrace/v1/broker_pb.js';
import { connect, openServerStream } from '../client/service-client.ts';
import { runLoad } from '../support/load-process.ts';
import { monotonicUs } from '../support/timing.ts';

/** A load process whose members join one group at once, each with a stream, and do not ack. */
export interface MembersSpec {
  readonly address: string;
  readonly topics: readonly string[];
  readonly group: string;
  readonly members: number;
  readonly connections: number;
}

export interface MembersResult {
  readonly startedUs: number;
  /** The time of the last Assigned. */
  readonly assignedUs: number;
  /** The number of partitions of all members together. */
  readonly partitions: number;
}

runLoad<MembersSpec, MembersResult>((spec) => {
  const clients: Client[] = Array.from({ length: spec.connections }, () => {
    // Without this option grpc-js shares one connection among all clients of an address.
    return connect(spec.address, { 'grpc.use_local_subchannel_pool': 1 });
  });
  let startedUs = 0;
  let assignedUs = 0;
  let total = 0;
  let stopped = false;
  const subscribe = (member: number): void => {
    const { group, topics } = spec;
    const stream = openServerStream(clients[member % clients.length]!, BrokerService.method.subscribe, {
      group,
      topics: [...topics],
      clientId: 'bench',
      assignmentChanges: true,
    });
    const held = new Set<string>();
    stream.on('data', ({ event }: SubscribeResponse) => {
      if (event.case !== 'assigned') return;
      total -= held.size;
      for (const { topic, partition } of event.value.removed) held.delete(`${topic}/${partition}`);
      for (const { topic, partition } of event.value.partitions) held.add(`${topic}/${partition}`);
      total += held.size;
      assignedUs = monotonicUs();
    });
    stream.on('error', (error) => {
      if (!stopped) throw error;
    });
  };
  return Promise.resolve({
    start: () => {
      startedUs = monotonicUs();
      for (let member = 0; member < spec.members; member++) subscribe(member);
    },
    mark: () => undefined,
    collect: () => ({ startedUs, assignedUs, partitions: total }),
    stop: () => {
      stopped = true;
      for (const client of clients) client.close();
      return Promise.resolve();
    },
  });
});
