import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Client } from '@grpc/grpc-js';
import { call, connect } from '../../../bench/client/service-client.ts';
import type { BrokerProcess } from '../../../bench/support/broker-process.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService, type GetGroupResponse } from '../../../gen/millrace/v1/group_pb.js';
import { Brokers } from '../brokers.ts';
import { createTopic, partitions } from '../clients.ts';
import { ClassicMember, GroupLedger, StreamMember } from '../members.ts';

/**
 * The only broker of a database is stopped for longer than the sessions of its members last, and
 * goes on.
 */

/** The shortest that is allowed. */
const sessionTimeoutS = 6;
const pausedMs = 8_000;
const options = { group: 'g', topic: 'orders', sessionTimeoutS };

let brokers: Brokers;
let broker: BrokerProcess;
let client: Client;
let ledger: GroupLedger;
let members: (StreamMember | ClassicMember)[] = [];
beforeEach(async () => {
  brokers = await Brokers.open();
  broker = await brokers.active();
  client = connect(broker.grpcAddress);
  await createTopic(broker.grpcAddress, 'orders');
  ledger = new GroupLedger();
  const addresses = [broker.grpcAddress];
  members = [StreamMember, StreamMember, ClassicMember].map((Kind) =>
    new Kind({ ...options, addresses, ledger }).start(),
  );
});
afterEach(async () => {
  broker.kill('SIGCONT');
  await Promise.all(members.map((member) => member.stop()));
  client.close();
  await brokers.close();
});

const getGroup = (): Promise<GetGroupResponse> => call(client, GroupService.method.getGroup, { group: 'g' });

async function untilSettled(): Promise<GetGroupResponse> {
  let shown!: GetGroupResponse;
  await waitFor('all members with their partitions', 20_000, 10, async () => {
    if (members.some(({ memberId }) => memberId === '')) return false;
    shown = await getGroup();
    const held = shown.members.map((member) => member.partitions.length);
    return held.length === members.length && held.every((count) => count === partitions / members.length);
  });
  return shown;
}

async function publish(first: number): Promise<void> {
  for (let partition = 0; partition < partitions; partition++) {
    const records = [{ value: Buffer.from(String(first + partition)) }];
    await call(client, BrokerService.method.publish, { topic: 'orders', partition, records });
  }
  await waitFor('everything to be acked', 20_000, 5, () => ledger.ackedRecords === first + partitions);
}

test(
  'a broker that was stopped for longer than its sessions last throws nobody out when it wakes, and moves nothing',
  { timeout: 90_000 },
  async () => {
    const before = await untilSettled();
    await publish(0);
    broker.kill('SIGSTOP');
    const stoppedMs = performance.now();
    await waitFor('sessions to be over', 20_000, 20, () => performance.now() - stoppedMs > pausedMs);
    broker.kill('SIGCONT');
    const beats = members.map((member) => member.beats);
    await waitFor('everybody to be answered again', 20_000, 10, () =>
      members.every((member, index) => member.beats > beats[index]! + 1),
    );
    await publish(partitions);
    const after = await untilSettled();
    expect(after.members.map(({ memberId }) => memberId)).toEqual(before.members.map(({ memberId }) => memberId));
    expect(after.group!.generation).toBe(before.group!.generation);
    expect(members.flatMap(({ fenced }) => fenced)).toEqual([]);
    expect(broker.output()).toContain('this process stood still');
  },
);
