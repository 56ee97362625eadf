import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { PublishRequestSchema, PublishResponseSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { fromBinary } from '@bufbuild/protobuf';
import { expectedOffsetMismatch, publishQueueFull } from '../../../src/errors/rejections/publishing.ts';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import { PublishStream, type PublishStreamOutput } from '../../../src/rpc/handlers/publish-stream.ts';
import { createValidation } from '../../../src/rpc/validation/validation.ts';
import { FakeBroker } from '../fake-broker.ts';
import { encode } from '../grpc-client.ts';

/** The client's end: what it got, and whether it is read from. */
class Output implements PublishStreamOutput {
  readonly partitions: number[] = [];
  ended: unknown = 'open';
  paused = false;
  /** Calls `taken` of what has not been read. */
  readonly unread: (() => void)[] = [];
  reads = true;

  respond(response: Buffer, taken: () => void): void {
    this.partitions.push(fromBinary(PublishResponseSchema, response).results[0]!.partition!);
    if (this.reads) taken();
    else this.unread.push(taken);
  }

  end(error: unknown): void {
    this.ended = error;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }
}

function open() {
  const broker = new FakeBroker();
  broker.addTopic('orders');
  const commits: { partition: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  broker.commit = ({ partition }) =>
    new Promise((resolve, reject) => commits.push({ partition: partition!, resolve, reject }));
  const output = new Output();
  const context = {
    services: () => broker,
    authorize: () => null,
    validation: createValidation(limits),
    recordBytesMax: limits.recordBytesMax,
    defaultRetentionMs: null,
  };
  return { broker, commits, output, stream: new PublishStream(context, output) };
}

/** The partition tells the requests apart. */
function request(partition: number, topic = 'orders', value = 'x'): Buffer {
  return encode(PublishRequestSchema, { topic, partition, records: [{ value: Buffer.from(value) }] });
}

test('answers that overtake each other although a later request was committed first', async () => {
  const { commits, output, stream } = open();
  for (const partition of [0, 1, 2]) stream.receive(request(partition));
  commits[2]!.resolve();
  commits[1]!.resolve();
  await turn();
  expect(output.partitions).toEqual([]);
  commits[0]!.resolve();
  await turn();
  expect(output.partitions).toEqual([0, 1, 2]);
  stream.finish();
  await turn();
  expect(output.ended).toBeNull();
});

test('a request that is appended although an earlier one of its stream failed', async () => {
  const { broker, commits, output, stream } = open();
  for (const partition of [0, 1, 2]) stream.receive(request(partition));
  const tokens = broker.published.map((command) => command.stream);
  expect(new Set(tokens).size).toBe(1);
  const mismatch = expectedOffsetMismatch({ topic: 'orders', partition: 0, currentOffset: 1, expected: 0 });
  tokens[0]!.failure = mismatch;
  commits[1]!.reject(mismatch);
  // What is queued is for the appender to refuse; what comes now is refused by the broker.
  stream.receive(request(3));
  expect(broker.published).toHaveLength(3);
  commits[0]!.resolve();
  commits[2]!.resolve();
  await turn();
  expect(output.partitions).toEqual([0]);
  expect(output.ended).toBe(mismatch);
});

test('an append that fails after its request was answered (ack mode NONE) and nobody hears of it', async () => {
  for (const then of ['receive', 'finish'] as const) {
    const { broker, output, stream } = open();
    broker.commit = () => Promise.resolve();
    stream.receive(request(0));
    await turn();
    const failed = publishQueueFull({ publishQueueBytesMax: 1 });
    broker.published[0]!.stream!.failure = failed;
    if (then === 'receive') stream.receive(request(1));
    else stream.finish();
    await turn();
    expect(output.ended).toBe(failed);
    expect(broker.published).toHaveLength(1);
  }
});

test('a bad request in a stream ends it, after the answers to those before it', async () => {
  for (const bad of [request(1, 'nowhere'), Buffer.from([0xff]), Buffer.alloc(limits.publishBytesMax + 1)]) {
    const { broker, commits, output, stream } = open();
    stream.receive(request(0));
    stream.receive(bad);
    stream.receive(request(2));
    expect(broker.published.map(({ partition }) => partition)).toEqual([0]);
    expect(broker.published[0]!.stream!.failure, 'the request before it would be refused').toBeNull();
    await turn();
    stream.receive(request(3));
    expect(output.ended).toBe('open');
    commits[0]!.resolve();
    await turn();
    expect(output.partitions).toEqual([0]);
    expect(output.ended).toBeInstanceOf(Rejection);
    expect(broker.published).toHaveLength(1);
  }
});

test('a client that sends faster than the database commits is not read for long', async () => {
  const { commits, output, stream } = open();
  for (let count = 0; count < limits.publishStreamPendingMax; count += 1) {
    expect(output.paused).toBe(false);
    stream.receive(request(0));
  }
  expect(output.paused).toBe(true);
  commits[0]!.resolve();
  await turn();
  expect(output.paused).toBe(false);
  stream.receive(request(0, 'orders', 'x'.repeat(1_000_000)));
  expect(output.paused).toBe(true);
});

test('a client that does not read its answers is not read either', async () => {
  const { broker, output, stream } = open();
  broker.commit = () => Promise.resolve();
  output.reads = false;
  for (let count = 0; count < limits.publishStreamPendingMax; count += 1) stream.receive(request(0));
  await turn();
  expect(output.paused).toBe(true);
  for (const taken of output.unread) taken();
  expect(output.paused).toBe(false);
});

test('a shutdown answers what was received, then tells the client to go elsewhere', async () => {
  const { broker, commits, output, stream } = open();
  stream.receive(request(0));
  stream.drain();
  stream.receive(request(1));
  commits[0]!.resolve();
  await turn();
  expect(output.partitions).toEqual([0]);
  expect(output.ended).toMatchObject({ reason: 'DRAINING' });
  expect(broker.published).toHaveLength(1);
});

test('a client that went away is not written to', async () => {
  const { commits, output, stream } = open();
  stream.receive(request(0));
  stream.closed();
  commits[0]!.resolve();
  await turn();
  expect(output.partitions).toEqual([]);
  expect(output.ended).toBe('open');
});
