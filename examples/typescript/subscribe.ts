/**
 * node examples/typescript/subscribe.ts [TOPIC] [GROUP] [COUNT] : prints COUNT records (default:
 * for ever) and acks them.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import type { Client, ServiceError } from '@grpc/grpc-js';
import { AckAction, AckStatus, BlockedOn, BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { AckEntrySchema, SubscribeResponse } from '../../gen/millrace/v1/broker_pb.js';
import type { Batch, DeliveredRecord } from '../../gen/millrace/v1/record_pb.js';
import { call, connect, reason, serverStream } from './client.ts';

const [topic = 'orders', group = 'billing', count = 'Infinity'] = process.argv.slice(2);
const client = connect(process.env['MILLRACE_ADDRESS'] ?? '127.0.0.1:50051');
let wanted = Number(count);
let memberId = '';

/** By partition: the record that failed. What lies behind it comes again after it. */
const failed = new Map<number, bigint>();

/**
 * Your work. It may see a record again, after a crash for instance, so it should not mind. It
 * throws when it fails.
 */
function handle(where: string, { offset, attempt, record }: DeliveredRecord): void {
  const value = Buffer.from(record!.value).toString();
  console.log(`${where} ${offset} (attempt ${attempt}) ${record!.key}: ${value}`);
  if (value === process.env['FAIL_ONCE'] && attempt === 1) throw new Error(`"${value}" fails once, as was asked for`);
}

/** Handles a batch in its order, as far as that goes, and tells the broker how far it went. */
async function work({ topic, partition, lane, records }: Batch, generation: bigint): Promise<void> {
  const first = records[0]!.offset!;
  // It was under way when a record before it failed, and comes again behind that one: the order
  // holds.
  if (first > (failed.get(partition!) ?? first)) return;
  failed.delete(partition!);
  const place = { topic, partition: partition!, lane: lane! };
  let handled = 0;
  try {
    for (; handled < records.length; handled++) handle(`${topic}/${partition}`, records[handled]!);
  } catch (error) {
    console.log(`failed: ${(error as Error).message}`);
  }
  wanted -= handled;
  const acks = [];
  if (handled > 0) acks.push({ ...place, ranges: [{ first, last: records[handled - 1]!.offset! }] });
  if (handled < records.length) {
    const offset = records[handled]!.offset!;
    failed.set(partition!, offset);
    acks.push({ ...place, action: AckAction.NACK, offsets: [offset] });
  }
  await ack(acks, generation);
}

/**
 * What is handled is acked by a range, what failed gets a NACK. An ack by upToOffset would speak
 * for everything before it as well; after a failure the broker rejects it (UNKNOWN_OFFSET).
 */
async function ack(acks: MessageInitShape<typeof AckEntrySchema>[], generation: bigint): Promise<void> {
  const { results } = await call(client, BrokerService.method.ack, { group, memberId, generation, acks });
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
      // A partition that has moved begins where the group is by now, not at the record that failed
      // here.
      failed.clear();
      return console.log(`partitions: ${event.value.partitions.map((p) => p.partition).join(' ') || 'none'}`);
    case 'batch':
      return work(event.value, generation!);
    case 'revoking':
      // Acking what is in flight, as above, is all that is needed.
      return console.log(`leaving partitions: ${event.value.partitions.map((p) => p.partition).join(' ')}`);
    case 'idle':
      return console.log(`idle: ${BlockedOn[event.value.blockedOn]}, lag ${event.value.lag}`);
    case 'gap':
      // The retention of the topic has dropped records that the group had not acked.
      return console.log(`records ${event.value.first} to ${event.value.last} are gone`);
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
    // Acks name the lane of their batch, so topics with more than one may send theirs.
    lanes: true,
  });
  try {
    for await (const response of stream) {
      await take(response as SubscribeResponse);
      if (wanted <= 0) return;
    }
  } finally {
    // Leaving the loop alone would keep the stream, and this process with it, until the broker's
    // next event.
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
    // UNAVAILABLE: the broker or its database is away for now. ABORTED: this member was replaced or
    // removed. Both mean to subscribe again, as a new member; what was not acked comes again.
    // Everything else is a mistake of ours.
    if (code !== status.UNAVAILABLE && code !== status.ABORTED) throw error;
    console.log(`${reason(error as ServiceError)}: ${message}; again in ${waitMs} ms`);
    await pause(waitMs);
    waitMs = Math.min(waitMs * 2, 5_000);
  }
}
client.close();
