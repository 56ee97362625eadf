import { once } from 'node:events';
import { status, type ServiceError } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import {
  AckStatus,
  BlockedOn,
  BrokerService,
  PullRequestSchema,
  type PublishStreamResponse,
  type SubscribeResponse,
} from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import {
  SubscriptionService,
  SubscriptionState,
  SubscriptionStateReason,
} from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import type { PullCommand } from '../../../src/broker/commands.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { replaced } from '../../../src/errors/rejections/members.ts';
import { limits } from '../../../src/limits/limits.ts';
import { memberId, oneRecord } from '../fake-broker.ts';
import { encode, failureOf, grpcDetails, GrpcClient } from '../grpc-client.ts';
import { serve } from '../serving.ts';

const { publish, publishStream, subscribe, pull, ack, heartbeat } = BrokerService.method;
const record = { key: 'k1', value: Buffer.from('hello'), headers: { type: 'OrderPlaced' } };

test('publish, subscribe and ack with ordinary generated code', async () => {
  const { broker, grpcPort } = await serve();
  const client = new GrpcClient(grpcPort);
  const published = await client.unary(publish, { topic: 'orders', records: [record], partition: 2 });
  expect(published.results).toMatchObject([{ partition: 2, offset: 0n, duplicate: false }]);

  const stream = client.stream(subscribe, { group: 'billing', topics: ['orders', 'orders'] });
  const events = stream[Symbol.asyncIterator]() as AsyncIterator<SubscribeResponse>;
  const next = async () => ((await events.next()) as { value: SubscribeResponse }).value;
  expect(await next()).toMatchObject({
    generation: 1n,
    event: { case: 'joined', value: { memberId, generation: 1n } },
  });
  const [opened] = broker.streams;
  expect(opened).toMatchObject({
    caller: { principal: 'anonymous', host: '127.0.0.1' },
    command: { topics: ['orders'], maxInFlightRecords: 1_000, maxInFlightBytes: 8_388_608, clientId: 'member' },
  });
  opened!.sink.send({ type: 'batch', generation: 0, field: oneRecord('hello') });
  expect(await next()).toMatchObject({
    generation: 0n,
    event: { case: 'batch', value: { topic: 'orders', partition: 0, lane: 0, records: [{ offset: 0n, record }] } },
  });

  const acked = await client.unary(ack, {
    group: 'billing',
    memberId,
    generation: 1n,
    acks: [{ topic: 'orders', partition: 0, upToOffset: 0n }],
  });
  expect(acked.results).toMatchObject([{ partition: 0, lane: 0, status: AckStatus.OK, committedOffset: 1n }]);
  stream.on('error', () => undefined);
  stream.cancel();
});

test('an event that reaches the client with a field missing', async () => {
  const { broker, grpcPort } = await serve();
  const stream = new GrpcClient(grpcPort).stream(subscribe, { group: 'billing', topics: ['orders'] });
  const seen: SubscribeResponse[] = [];
  stream.on('data', (event: SubscribeResponse) => seen.push(event));
  await once(stream, 'data');
  const { sink } = broker.streams[0]!;
  const at = { topic: 'orders', partition: 0 };
  const partition = {
    ...at,
    lane: 0,
    committedOffset: 0,
    highWatermark: 0,
    lag: 0,
    blockedOn: null,
    memberId: null,
    inFlightRecords: 0,
    oldestUnackedAgeMs: null,
  };
  const inFlight = { inFlightRecords: 0, inFlightBytes: 0, lag: 0 };
  sink.send({ type: 'assigned', generation: 0, partitions: [at] });
  sink.send({ type: 'revoking', generation: 0, partitions: [at], deadlineAtMs: 1_500 });
  sink.send({ type: 'idle', generation: 0, blockedOn: 'CAUGHT_UP', ...inFlight, partitions: [partition] });
  sink.send({ type: 'draining', generation: 0, memberId, deadlineAtMs: 1_500 });
  sink.end(null);
  await once(stream, 'end');
  const deadline = { seconds: 1n, nanos: 500_000_000 };
  expect(seen.slice(1).map(({ event }) => event)).toMatchObject([
    { case: 'assigned', value: { generation: 0n, partitions: [at] } },
    { case: 'revoking', value: { generation: 0n, partitions: [at], deadline } },
    {
      case: 'idle',
      value: {
        blockedOn: BlockedOn.CAUGHT_UP,
        lag: 0n,
        inFlightRecords: 0,
        inFlightBytes: 0n,
        partitions: [{ ...at, lane: 0, committedOffset: 0n, highWatermark: 0n, lag: 0n }],
      },
    },
    { case: 'draining', value: { memberId, deadline } },
  ]);
  expect(seen.every(({ generation }) => generation !== undefined)).toBe(true);
});

test('a member that asked for changes of its assignment is told which they are', async () => {
  const { broker, grpcPort } = await serve();
  const request = { group: 'billing', topics: ['orders'], assignmentChanges: true };
  const stream = new GrpcClient(grpcPort).stream(subscribe, request);
  const events = stream[Symbol.asyncIterator]() as AsyncIterator<SubscribeResponse>;
  await events.next();
  const { sink, command } = broker.streams[0]!;
  expect(command).toMatchObject({ assignmentChanges: true });
  const at = (partition: number) => ({ topic: 'orders', partition });
  sink.send({ type: 'assigned', generation: 1, partitions: [at(0), at(1)] });
  sink.send({ type: 'assigned', generation: 2, partitions: [at(2)], removed: [at(0)] });
  expect((await events.next()).value).toMatchObject({
    event: { case: 'assigned', value: { changes: false, partitions: [at(0), at(1)], removed: [] } },
  });
  expect((await events.next()).value).toMatchObject({
    event: { case: 'assigned', value: { generation: 2n, changes: true, partitions: [at(2)], removed: [at(0)] } },
  });
  sink.end(null);
});

test('every other call reaches the broker and comes back', async () => {
  const { broker, grpcPort } = await serve();
  const client = new GrpcClient(grpcPort);
  const topics = TopicService.method;
  const made = await client.unary(topics.createTopic, { topic: { name: 'new', idempotencyWindow: { seconds: 7n } } });
  expect(made.topic).toMatchObject({ name: 'new', partitions: 3, idempotencyWindow: { seconds: 7n } });
  expect((await client.unary(topics.getTopic, { name: 'new' })).partitions).toMatchObject([
    { partition: 0, logStartOffset: 0n, highWatermark: 0n, watermark: 0n },
  ]);
  const updateMask = { paths: ['description'] };
  await client.unary(topics.updateTopic, { topic: { name: 'new', description: 'what for' }, updateMask });
  expect(broker.calls.at(-1)).toEqual({ name: 'new', description: 'what for' });
  expect((await client.unary(topics.listTopics, {})).topics).toHaveLength(2);
  expect(broker.calls.at(-1)).toEqual({ size: 100, token: '' });
  await client.unary(topics.deleteTopic, { name: 'new' });

  const claim = { group: 'billing', topic: 'orders' };
  const claims = SubscriptionService.method;
  const partitions = [{ partition: 1, offset: 9n }];
  const position = { case: 'offset', value: { partitions } } as const;
  const created = await client.unary(claims.createSubscription, { ...claim, start: { position } });
  expect(created.subscription).toMatchObject({ id: 1n, ...claim });
  const command = { type: 'offsets', offset: null, partitions: [{ partition: 1, lane: null, offset: 9 }] };
  expect(broker.calls.at(-1)).toEqual({ ...claim, start: command, deadAfterMs: 240_000 });
  await client.unary(claims.getSubscription, claim);
  await client.unary(claims.listSubscriptions, { group: 'billing', pageSize: 7 });
  expect(broker.calls.at(-1)).toEqual([
    { group: 'billing', topic: null, states: [] },
    { size: 7, token: '' },
  ]);
  const neverDies = { case: 'neverDies', value: true } as const;
  const change = { subscription: { ...claim, death: neverDies }, updateMask: { paths: ['never_dies'] } };
  expect((await client.unary(claims.updateSubscription, change)).subscription?.death).toEqual(neverDies);
  expect(broker.calls.at(-1)).toEqual(['billing', 'orders', null]);
  const paused = await client.unary(claims.pauseSubscription, claim);
  expect(paused.subscription?.state).toBe(SubscriptionState.PAUSED);
  const resumed = await client.unary(claims.resumeSubscription, claim);
  expect(resumed.subscription?.stateReason).toBe(SubscriptionStateReason.RESUMED);
  await client.unary(claims.cancelSubscription, claim);

  const groups = GroupService.method;
  const joined = await client.unary(groups.joinGroup, { group: 'billing', topics: ['orders'] });
  expect(joined).toMatchObject({ memberId, generation: 1n, heartbeatInterval: { seconds: 3n } });
  const synced = await client.unary(groups.syncGroup, { group: 'billing', memberId, knownGeneration: 0n });
  expect(synced.partitions).toMatchObject([{ topic: 'orders', partition: 0 }]);
  expect(broker.calls.at(-1)).toMatchObject({ knownGeneration: 0, waitMs: 30_000 });
  await client.unary(groups.leaveGroup, { group: 'billing', memberId });
  const { group } = await client.unary(groups.getGroup, { group: 'billing' });
  expect(group).toMatchObject({ generation: 1n, memberCount: 0 });
  await client.unary(groups.listGroups, {});
  const beat = await client.unary(heartbeat, {
    group: 'billing',
    memberId,
    generation: 1n,
    revoked: [{ topic: 'orders', partition: 0 }],
  });
  expect(beat).toMatchObject({ generation: 0n, revoking: [{ topic: 'orders', partition: 0 }] });

  broker.fields = [oneRecord('one'), oneRecord('two', 1n)];
  const pulled = await client.unary(pull, { group: 'billing', topics: ['orders'] });
  expect(pulled).toMatchObject({ memberId, generation: 1n });
  expect(pulled.batches.map(({ records }) => records[0]!.offset)).toEqual([0n, 1n]);
  const from = { case: 'timestamp', value: { seconds: 1n } } as const;
  const read = await client.unary(MessageService.method.readMessages, { topic: 'orders', from });
  expect(read).toMatchObject({ nextOffset: 0n, highWatermark: 0n, logStartOffset: 0n });
  expect(read.batches).toHaveLength(2);
  expect(broker.calls.at(-1)).toMatchObject({ partition: 0, lane: null, from: { timeUs: 1_000_000 }, maxRecords: 100 });
});

describe('bad input', () => {
  test('malformed protobuf is INVALID_ARGUMENT with a reason, on every kind of call', async () => {
    const { grpcPort } = await serve();
    const client = new GrpcClient(grpcPort);
    for (const method of [publish, ack, TopicService.method.createTopic, MessageService.method.readMessages]) {
      const error = await failureOf(client.raw(method, Buffer.from([0x0a, 0xff])));
      expect(error.code).toBe(status.INVALID_ARGUMENT);
      expect(grpcDetails(error)).toMatchObject({ ErrorInfo: { reason: 'MALFORMED_REQUEST', domain: 'millrace' } });
    }
  });

  test('a wrong field, an unknown topic, a broken database: each has its code and details', async () => {
    const { broker, grpcPort } = await serve();
    const client = new GrpcClient(grpcPort);
    const badName = await failureOf(client.unary(TopicService.method.getTopic, { name: 'or ders' }));
    expect(badName.code).toBe(status.INVALID_ARGUMENT);
    expect(grpcDetails(badName)).toMatchObject({ BadRequest: { fieldViolations: [{ field: 'name' }] } });

    const nowhere = await failureOf(client.unary(publish, { topic: 'nowhere', records: [record] }));
    expect(nowhere.code).toBe(status.NOT_FOUND);
    expect(grpcDetails(nowhere)).toMatchObject({ ErrorInfo: { reason: 'TOPIC_NOT_FOUND' } });

    broker.fail = new Fault('OUTCOME_UNKNOWN', 'connection terminated');
    const unknown = await failureOf(client.unary(publish, { topic: 'orders', records: [record] }));
    expect(unknown.code).toBe(status.UNAVAILABLE);
    expect(grpcDetails(unknown)).toMatchObject({ ErrorInfo: { reason: 'OUTCOME_UNKNOWN' }, RetryInfo: {} });
  });

  test('a bug is opaque to the caller, and its cause is in the log', async () => {
    const { broker, bugs, grpcPort } = await serve();
    broker.fail = new TypeError('boom');
    const error = await failureOf(new GrpcClient(grpcPort).unary(publish, { topic: 'orders', records: [record] }));
    expect(error.code).toBe(status.INTERNAL);
    expect(error.message).not.toContain('boom');
    expect(bugs).toEqual([expect.objectContaining({ err: broker.fail })]);
    expect(error.message).toContain(bugs[0]!['bugId']);
  });

  test('a message beyond the limit is refused unread, with the reason that the other edge gives', async () => {
    const { grpcPort } = await serve();
    const client = new GrpcClient(grpcPort);
    for (const method of [publish, ack]) {
      const error = await failureOf(client.raw(method, Buffer.alloc(limits.publishBytesMax + 1)));
      expect(error.code).toBe(status.INVALID_ARGUMENT);
      expect(grpcDetails(error)).toMatchObject({ ErrorInfo: { reason: 'REQUEST_TOO_LARGE' } });
    }
  });

  test('a standby answers every call with NOT_OWNER', async () => {
    const { grpcPort } = await serve({ services: () => null });
    const client = new GrpcClient(grpcPort);
    const error = await failureOf(client.unary(publish, { topic: 'orders', records: [record] }));
    expect(grpcDetails(error)).toMatchObject({ ErrorInfo: { reason: 'NOT_OWNER' }, RetryInfo: {} });
    const stream = client.stream(subscribe, { group: 'billing', topics: ['orders'] });
    const [failure] = (await once(stream, 'error')) as [ServiceError];
    expect(failure.code).toBe(status.UNAVAILABLE);
  });
});

describe('a stream', () => {
  test('a stream that the client cancels is closed at the broker', async () => {
    const { broker, grpcPort } = await serve();
    const stream = new GrpcClient(grpcPort).stream(subscribe, { group: 'billing', topics: ['orders'] });
    stream.on('error', () => undefined);
    await once(stream, 'data');
    expect(broker.streams[0]!.closed).toBe(false);
    stream.cancel();
    await expect.poll(() => broker.streams[0]!.closed).toBe(true);
    broker.streams[0]!.sink.send({ type: 'batch', generation: 1, field: oneRecord('late') });
    expect(broker.streams[0]!.sink.unsentBytes).toBe(0);
  });

  test('a stream that ends with an error first delivers its events, and then the reason', async () => {
    const { broker, grpcPort } = await serve();
    const stream = new GrpcClient(grpcPort).stream(subscribe, { group: 'billing', topics: ['orders'] });
    const seen: SubscribeResponse[] = [];
    stream.on('data', (event: SubscribeResponse) => seen.push(event));
    await once(stream, 'data');
    const { sink } = broker.streams[0]!;
    sink.send({ type: 'batch', generation: 1, field: oneRecord('last') });
    sink.end(replaced('member-1'));
    const [error] = (await once(stream, 'error')) as [ServiceError];
    expect(error.code).toBe(status.ABORTED);
    expect(grpcDetails(error)).toMatchObject({ ErrorInfo: { reason: 'REPLACED' } });
    expect(seen).toHaveLength(2);
  });

  test('a stream without a reader shows its unsent bytes, and reports when it flows again', async () => {
    const { broker, grpcPort } = await serve();
    const stream = new GrpcClient(grpcPort).stream(subscribe, { group: 'billing', topics: ['orders'] });
    stream.on('error', () => undefined);
    await once(stream, 'data');
    stream.pause();
    const { sink } = broker.streams[0]!;
    let drains = 0;
    sink.onDrain = () => {
      drains += 1;
    };
    const field = oneRecord('x'.repeat(100_000));
    // As the broker does: no more than the limit is ever handed over.
    const fill = () => {
      while (sink.unsentBytes < limits.streamUnsentBytesMax) sink.send({ type: 'batch', generation: 1, field });
    };
    // Until nothing moves any more, all windows and buffers on the way being full.
    let drained = -1;
    await expect
      .poll(() => {
        fill();
        const still = drains === drained;
        drained = drains;
        return still;
      })
      .toBe(true);
    expect(sink.unsentBytes).toBeGreaterThanOrEqual(limits.streamUnsentBytesMax);
    expect(sink.unsentBytes).toBeLessThan(limits.streamUnsentBytesMax + 2 * field.length);
    stream.resume();
    await expect.poll(() => sink.unsentBytes).toBe(0);
    expect(drains).toBeGreaterThan(drained);
    stream.cancel();
  });

  test('a long poll whose client goes away is told to the broker', async () => {
    const { broker, grpcPort } = await serve();
    const request = encode(PullRequestSchema, { group: 'billing', topics: ['orders'], wait: { seconds: 60n } });
    const cancel = new GrpcClient(grpcPort).cancellable(pull, request);
    await expect.poll(() => broker.calls.length).toBe(1);
    const { signal } = (broker.calls[0] as PullCommand).reply;
    expect(signal.aborted).toBe(false);
    const aborted = once(signal, 'abort');
    cancel();
    await aborted;
  });
});

describe('PublishStream', () => {
  test('answers each request in order, and ends well', async () => {
    const { broker, grpcPort } = await serve();
    const stream = new GrpcClient(grpcPort).bidi(publishStream);
    const partitions: (number | undefined)[] = [];
    stream.on('data', ({ results }: PublishStreamResponse) => partitions.push(results[0]?.partition));
    const requests = Array.from({ length: 200 }, (_, partition) => partition % 7);
    for (const partition of requests) stream.write({ topic: 'orders', partition, records: [record] });
    stream.end();
    await once(stream, 'end');
    expect(partitions).toEqual(requests);
    expect(broker.published).toHaveLength(200);
  });

  test('ends at its first failure, and appends nothing behind it', async () => {
    const { broker, grpcPort } = await serve();
    const stream = new GrpcClient(grpcPort).bidi(publishStream);
    const answers: unknown[] = [];
    stream.on('data', (answer) => answers.push(answer));
    stream.write({ topic: 'orders', records: [record] });
    stream.write({ topic: 'nowhere', records: [record] });
    for (let count = 0; count < 50; count += 1) stream.write({ topic: 'orders', partition: 1, records: [record] });
    const [error] = (await once(stream, 'error')) as [ServiceError];
    expect(error.code).toBe(status.NOT_FOUND);
    expect(grpcDetails(error)).toMatchObject({ ErrorInfo: { reason: 'TOPIC_NOT_FOUND' } });
    expect(answers).toHaveLength(1);
    expect(broker.published).toHaveLength(1);
  });
});
