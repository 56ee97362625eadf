import type { DescMethod, MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { openDuplexStream } from '../../../bench/client/service-client.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { failureOf } from '../../rpc/grpc-client.ts';
import { grpcRefusal } from '../refusal.ts';
import { Site } from '../site.ts';

const { publish, publishStream, subscribe, pull, ack } = BrokerService.method;

let site: Site;
beforeAll(async () => {
  site = await Site.open({ flags: ['--group-members-max', '3'] });
  await site.createTopic('orders');
  await site.publish('orders', 0, ['a', 'b', 'c']);
});
afterEach(async () => {
  await site.publish('orders', 0, ['it still answers']);
});
afterAll(async () => {
  await site.close();
});

function batchWith(record: object) {
  return { topic: 'orders', partition: 0, records: [{ key: 'good' }, record] };
}

function headers(count: number, bytesEach: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`h${n}`.padEnd(8), 'x'.repeat(bytesEach - 8)]));
}

describe('a record or a batch over a limit', () => {
  test.each([
    ['a key', batchWith({ key: 'k'.repeat(1_025) }), 'records[1].key', 'record_key_bytes_max = 1024'],
    ['a key in bytes', batchWith({ key: 'ü'.repeat(513) }), 'records[1].key', 'record_key_bytes_max = 1024'],
    ['a record', batchWith({ value: Buffer.alloc(1_048_577) }), 'records[1]', 'record_bytes_max = 1048576'],
    ['too many headers', batchWith({ headers: headers(65, 9) }), 'records[1].headers', 'record_headers_max = 64'],
    ['headers', batchWith({ headers: headers(9, 4_096) }), 'records[1].headers', 'record_header_bytes_max = 32768'],
    [
      'an idempotency key',
      batchWith({ idempotencyKey: 'i'.repeat(257) }),
      'records[1].idempotency_key',
      'idempotency_key_bytes_max = 256',
    ],
    [
      'too many records',
      { topic: 'orders', records: Array.from({ length: 10_001 }, () => ({})) },
      'records',
      'publish_records_max = 10000',
    ],
    ['no record', { topic: 'orders' }, 'records', 'at least 1 record'],
  ])('a batch over a limit is rejected, and the limit is named: %s', async (_what, request, at, says) => {
    const refusal = await site.refusal(publish, request);
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', fields: [at] });
    expect(refusal.message).toContain(says);
  });

  test.each([
    ['of one byte more than the limit', limits.publishBytesMax + 1],
    ['of 6 MB, which the broker still reads as JSON', 6_000_000],
    ['of 30 MB, which the broker does not read to its end', 30_000_000],
  ])('a publish request %s is rejected as too large', async (_what, bytes) => {
    const request = { topic: 'orders', records: [{ value: Buffer.alloc(bytes) }] };
    const json = JSON.stringify({
      topic: 'orders',
      records: [{ value: request.records[0]!.value.toString('base64') }],
    });
    for (const refusal of [await site.grpcRefusal(publish, request), await site.jsonRefusal(publish, json)]) {
      expect(refusal.reason).toBe('REQUEST_TOO_LARGE');
      expect(refusal.message).toMatch(/(larger|more) than .*\b(4194304|8388608)\b/);
    }
  });

  test('a request of 30 MB to a method that takes one name is rejected as too large', async () => {
    const { getTopic } = TopicService.method;
    const name = 'x'.repeat(30_000_000);
    expect((await site.grpcRefusal(getTopic, { name })).reason).toBe('REQUEST_TOO_LARGE');
    expect((await site.jsonRefusal(getTopic, JSON.stringify({ name }))).reason).toBe('REQUEST_TOO_LARGE');
  });
});

test('a record of exactly the largest size is appended, and read back whole', async () => {
  await site.publish('orders', 1, ['v'.repeat(limits.recordBytesMax)]);
  await site.expectAllThere();
});

test('a batch of exactly the most records is appended, and read back whole', async () => {
  await site.publish(
    'orders',
    1,
    Array.from({ length: limits.publishRecordsMax }, (_, n) => `record ${n}`),
  );
  await site.expectAllThere();
});

test('a PublishStream ends at an oversize request, after the answers to the requests before it', async () => {
  const stream = openDuplexStream(site.client, publishStream);
  const answers: bigint[] = [];
  stream.on('data', ({ results }: { results: { offset: bigint }[] }) => answers.push(results[0]!.offset));
  const ended = failureOf(new Promise((_, reject) => stream.once('error', reject)));
  await site.createTopic('streamed', 1);
  for (const value of ['fine', 'x'.repeat(limits.recordBytesMax + 1), 'too late']) {
    stream.write({ topic: 'streamed', records: [{ value: Buffer.from(value) }] });
  }
  expect(grpcRefusal(await ended)).toMatchObject({ reason: 'INVALID_FIELD', fields: ['records[0]'] });
  expect(answers).toEqual([0n]);
  const { partitions } = await site.call(TopicService.method.getTopic, { name: 'streamed' });
  expect(partitions[0]!.highWatermark).toBe(1n);
  await site.call(TopicService.method.deleteTopic, { name: 'streamed' });
});

describe('a request over the limits of its method', () => {
  function wrong<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>, fields: readonly string[]) {
    return { name: method.name, fields, refused: () => site.refusal(method, request) };
  }
  const who = { group: 'g', topics: ['orders'] };
  const entry = { topic: 'orders', partition: 0, upToOffset: 0n };
  const minute = { seconds: 61n, nanos: 0 };
  const long = Array.from({ length: 10_001 }, (_, n) => BigInt(n));
  test.each([
    wrong(pull, { ...who, maxRecords: 10_001, maxBytes: 4_000_000n, wait: minute }, [
      'max_records',
      'max_bytes',
      'wait',
    ]),
    wrong(subscribe, { ...who, maxInFlightRecords: 10_001, maxInFlightBytes: 67_108_865n }, [
      'max_in_flight_records',
      'max_in_flight_bytes',
    ]),
    wrong(subscribe, { group: 'g', topics: Array.from({ length: 101 }, (_, n) => `t${n}`) }, ['topics']),
    wrong(subscribe, { ...who, sessionTimeout: { seconds: 5n, nanos: 0 } }, ['session_timeout']),
    wrong(pull, { ...who, memberId: 'm'.repeat(261) }, ['member_id']),
    wrong(ack, { group: 'g', memberId: 'm', generation: 1n, acks: Array.from({ length: 10_001 }, () => entry) }, [
      'acks',
    ]),
    wrong(
      ack,
      { group: 'g', memberId: 'm', generation: 1n, acks: [{ topic: 'orders', partition: 0, offsets: long }] },
      ['acks[0].offsets'],
    ),
    wrong(TopicService.method.createTopic, { topic: { name: 'wide', partitions: 1_001 } }, ['topic.partitions']),
    wrong(TopicService.method.createTopic, { topic: { name: 'wordy', description: 'x'.repeat(1_001) } }, [
      'topic.description',
    ]),
    wrong(TopicService.method.listTopics, { pageSize: 1_001, pageToken: 'x'.repeat(401) }, ['page_size', 'page_token']),
    wrong(SubscriptionService.method.listSubscriptions, { pageToken: 'never given out!' }, ['page_token']),
  ])('$name over its limits is rejected with $fields', async ({ refused, fields }) => {
    expect(await refused()).toMatchObject({ reason: 'INVALID_FIELD', fields });
  });

  test('a member beyond the operator’s limit on the members of a group is rejected', async () => {
    const group = { group: 'small', topics: ['orders'] };
    for (let n = 0; n < 3; n++) await site.call(GroupService.method.joinGroup, group);
    await site.refusal(subscribe, group);
    const refusal = await site.refusal(GroupService.method.joinGroup, group);
    expect(refusal.reason).toBe('GROUP_MEMBERS_MAX');
    expect(refusal.message).toContain('3');
  });
});

test('the log has every confirmed record and no other after oversize requests', async () => {
  await site.expectAllThere();
});
