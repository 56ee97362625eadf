/** node examples/typescript/subscribe.ts [TOPIC] [GROUP] [COUNT] : prints COUNT records (default: for ever) and acks them. */
import { setTimeout as pause } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import type { Client, ServiceError } from '@grpc/grpc-js';
import { AckStatus, BlockedOn, BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { SubscribeResponse } from '../../gen/millrace/v1/broker_pb.js';
import type { Batch } from '../../gen/millrace/v1/record_pb.js';
import { call, connect, reason, serverStream } from './client.ts';

const [topic = 'orders', group = 'billing', count = 'Infinity'] = process.argv.slice(2);
const client = connect(process.env['MILLRACE_ADDRESS'] ?? '127.0.0.1:50051');
let wanted = Number(count);
let memberId = '';

/** Your work. It may see a record again after a crash, so it should not mind. */
function handle(batch: Batch): void {
  for (const { offset, attempt, record } of batch.records) {
    const value = Buffer.from(record!.value).toString();
    console.log(`${batch.topic}/${batch.partition} ${offset} (attempt ${attempt}) ${record!.key}: ${value}`);
  }
}

/** Names exactly the records of the batch, in one entry with its partition and lane. */
async function ack(batch: Batch, generation: bigint): Promise<void> {
  const offsets = batch.records.map(({ offset }) => offset!);
  const entry = { topic: batch.topic, partition: batch.partition!, lane: batch.lane!, offsets };
  const { results } = await call(client, BrokerService.method.ack, { group, memberId, generation, acks: [entry] });
  for (const result of results) {
    // The partition has moved to another member meanwhile, which gets the records again.
    if (result.status !== AckStatus.OK) console.log(`ack refused: ${AckStatus[result.status]}`);
  }
}

async function take({ event, generation }: SubscribeResponse): Promise<void> {
  switch (event.case) {
    case 'joined':
      memberId = event.value.memberId;
      return console.log(`joined as ${memberId}`);
    case 'assigned':
      return console.log(`partitions: ${event.value.partitions.map((p) => p.partition).join(' ') || 'none'}`);
    case 'batch':
      handle(event.value);
      await ack(event.value, generation!);
      wanted -= event.value.records.length;
      return;
    case 'revoking':
      // Acking what is in flight, as above, is all that is needed.
      return console.log(`leaving partitions: ${event.value.partitions.map((p) => p.partition).join(' ')}`);
    case 'idle':
      return console.log(`idle: ${BlockedOn[event.value.blockedOn]}, lag ${event.value.lag}`);
    case 'draining':
      return console.log('the broker is going away; subscribing again when it ends the stream');
    default:
      return;
  }
}

/** One stream, until it ends or enough has come. */
async function subscribe(connection: Client): Promise<void> {
  const stream = serverStream(connection, BrokerService.method.subscribe, {
    group,
    topics: [topic],
    start: { position: { case: 'earliest', value: {} } },
    maxInFlightRecords: 1000,
  });
  try {
    for await (const response of stream) {
      await take(response as SubscribeResponse);
      if (wanted <= 0) return;
    }
  } finally {
    // Leaving the loop alone would keep the stream, and this process with it, until the broker's next event.
    stream.cancel();
  }
}

let waitMs = 100;
while (wanted > 0) {
  try {
    await subscribe(client);
    waitMs = 100;
  } catch (error) {
    const { code, message } = error as ServiceError;
    // UNAVAILABLE: the broker or its database is away for now. ABORTED: this member was replaced or removed. Both mean
    // to subscribe again, as a new member; what was not acked comes again. Everything else is a mistake of ours.
    if (code !== status.UNAVAILABLE && code !== status.ABORTED) throw error;
    console.log(`${reason(error as ServiceError)}: ${message}; again in ${waitMs} ms`);
    await pause(waitMs);
    waitMs = Math.min(waitMs * 2, 5_000);
  }
}
client.close();
