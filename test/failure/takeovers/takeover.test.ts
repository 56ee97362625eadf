import { status, type ServiceError } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { Brokers, untilReady, whyNotReady } from '../brokers.ts';
import { createTopic, Consumer, inversions, Publisher } from '../clients.ts';
import { Fleet } from '../fleet.ts';
import { ClassicMember, GroupLedger, StreamMember } from '../members.ts';
import { nodeFlagsOfBlocking } from '../preload.ts';

let brokers: Brokers;
beforeEach(async () => {
  brokers = await Brokers.open();
});
afterEach(async () => {
  await brokers.close();
});

test('after a kill -9 the standby serves within 2 s, and nothing confirmed is lost', { timeout: 90_000 }, async () => {
  const first = await brokers.active();
  const second = await brokers.standby();
  expect(await second.ready()).toBe(false);
  await createTopic(first.grpcAddress, 'orders');
  const addresses = [first.grpcAddress, second.grpcAddress];
  const consumers = ['a', 'b'].map((group) => new Consumer(addresses, group, 'orders').start());
  const publisher = new Publisher(addresses, 'orders');
  publisher.start(4, 10);
  for (const consumer of consumers) {
    await consumer.until('received before the crash', () => consumer.received.size > 500);
  }
  first.kill('SIGKILL');
  expect(await untilReady(second)).toBeLessThan(2_000);
  const confirmedBefore = publisher.confirmed.size;
  await consumers[0]!.until('publishes go on', () => publisher.confirmed.size > confirmedBefore + 500);
  await publisher.stop();
  for (const consumer of consumers) {
    await consumer.until('everything confirmed', () => consumer.received.size >= publisher.confirmed.size);
    expect([...publisher.confirmed.keys()].filter((n) => !consumer.received.has(n))).toEqual([]);
    expect(consumer.afterAck).toEqual([]);
    expect(inversions(consumer.deliveries, publisher.confirmed)).toBe(0);
    await consumer.stop();
  }
});

test(
  'a frozen broker is replaced within 10 s, and when it wakes it can write nothing',
  { timeout: 90_000 },
  async () => {
    const first = await brokers.active();
    const second = await brokers.standby();
    await createTopic(first.grpcAddress, 'orders');
    const toFirst = connect(first.grpcAddress);
    const publish = (value: string) =>
      call(toFirst, BrokerService.method.publish, {
        topic: 'orders',
        partition: 0,
        records: [{ value: Buffer.from(value) }],
      });
    await publish('before');
    first.kill('SIGSTOP');
    const late = publish('from the grave').then(
      () => 'confirmed',
      (error: ServiceError) => error.code,
    );
    expect(await untilReady(second)).toBeLessThan(10_000);
    first.kill('SIGCONT');
    expect([status.UNAVAILABLE, status.CANCELLED, status.ABORTED]).toContain(await late);
    const { code } = await first.exited;
    expect(code).not.toBe(0);
    const toSecond = connect(second.grpcAddress);
    const read = await call(toSecond, MessageService.method.readMessages, { topic: 'orders' });
    expect(
      read.batches.flatMap(({ records }) => records).map(({ record }) => Buffer.from(record!.value).toString()),
    ).toEqual(['before']);
    toFirst.close();
    toSecond.close();
  },
);

test(
  'a broker whose event loop is blocked is replaced within 10 s, and when it wakes it writes nothing, loses nothing and repeats nothing acked',
  { timeout: 120_000 },
  async () => {
    const fleet = await Fleet.open([nodeFlagsOfBlocking(15_000), []]);
    const [first, second] = [fleet.active, fleet.standby];
    await createTopic(first.address, 'orders');
    const ledger = new GroupLedger();
    const options = { addresses: fleet.addresses, group: 'g', topic: 'orders', ledger };
    const members = [new StreamMember(options).start(), new ClassicMember(options).start()];
    const publisher = new Publisher(fleet.addresses, 'orders');
    try {
      publisher.start(4, 10, 10);
      await waitFor('acks', 30_000, 5, () => ledger.ackedRecords > 500);
      first.broker.kill('SIGUSR2');
      expect(await untilReady(second.broker)).toBeLessThan(10_000);
      expect(first.broker.process.exitCode, 'the old owner is still blocked').toBe(null);
      const written = await fleet.rowsWrittenBy(first.brokerId);
      const { ackedRecords } = ledger;
      await waitFor('acks at the new owner', 30_000, 5, () => ledger.ackedRecords > ackedRecords + 500);
      expect((await first.broker.exited).code).toBe(1);
      expect(first.broker.output()).toContain('no longer owns the database: another broker has taken over');
      expect(await fleet.rowsWrittenBy(first.brokerId)).toBe(written);
      await publisher.stop();
      const missing = (): number[] => [...publisher.confirmed.keys()].filter((n) => !ledger.received.has(n));
      await waitFor('everything confirmed', 30_000, 50, () => missing().length === 0);
      expect(ledger.afterAck).toEqual([]);
      expect(ledger.outOfOrder).toEqual([]);
      expect(members.flatMap(({ fenced }) => fenced)).toEqual([]);
    } finally {
      await publisher.stop();
      await Promise.all(members.map((member) => member.stop()));
      await fleet.close();
    }
  },
);

test(
  'on SIGTERM the standby takes over at once, and publishes under way are answered',
  { timeout: 60_000 },
  async () => {
    const first = await brokers.active();
    const second = await brokers.standby();
    await createTopic(first.grpcAddress, 'orders');
    const addresses = [first.grpcAddress, second.grpcAddress];
    const consumer = new Consumer(addresses, 'a', 'orders').start();
    const publisher = new Publisher(addresses, 'orders');
    publisher.start(4, 10);
    await consumer.until('received', () => consumer.received.size > 300);
    const stopping = first.stop();
    await untilReady(second);
    expect(await stopping).toBe(0);
    await publisher.stop();
    await consumer.until('everything confirmed', () => consumer.received.size >= publisher.confirmed.size);
    expect(consumer.afterAck).toEqual([]);
    expect(inversions(consumer.deliveries, publisher.confirmed)).toBe(0);
    await consumer.stop();
  },
);

test('a standby says so, and has no gRPC port', async () => {
  await brokers.active();
  const second = await brokers.standby();
  expect(await second.ready()).toBe(false);
  expect(await whyNotReady(second)).toContain('standing by');
  const any = async (): Promise<number> => (await fetch(`${second.httpUrl}/readyz?role=any`)).status;
  await waitFor('a standby that a rollout may go on from', 20_000, 20, async () => (await any()) === 200);
  const client = connect(second.grpcAddress);
  const refused = await call(client, BrokerService.method.publish, { topic: 'x', records: [{}] }).catch(
    (error: ServiceError) => error.code,
  );
  expect(refused).toBe(status.UNAVAILABLE);
  client.close();
});
