import { create, toBinary } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { methodPath } from '../../../bench/client/service-client.ts';
import { BrokerService, PublishRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { RecordSchema } from '../../../gen/millrace/v1/record_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { Site } from '../site.ts';

const { publish, subscribe } = BrokerService.method;

let site: Site;
beforeAll(async () => {
  site = await Site.open();
  await site.createTopic('orders');
  await site.publish('orders', 0, ['a', 'b', 'c']);
});
afterEach(async () => {
  await site.publish('orders', 0, ['it still answers']);
});
afterAll(async () => {
  await site.close();
});

const unaryMethods = [BrokerService, TopicService, SubscriptionService, GroupService, MessageService]
  .flatMap((service) => service.methods)
  .filter(({ methodKind }) => methodKind === 'unary')
  .map((method) => [method.name, method] as const);

/** A field of type bytes, string or message. */
function field(number: number, content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content);
  if (bytes.length > 127) throw new Error('only short fields, with a length of one byte');
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

describe('bytes that are no protobuf', () => {
  test.each(unaryMethods)('bytes that are no protobuf are rejected by %s', async (_name, method) => {
    for (const bytes of ['0a', '0aff', '0a05616263', '0b', 'ffffffffffffffffffff01', 'deadbeefdeadbeef']) {
      const refusal = await site.rawRefusal(method, Buffer.from(bytes, 'hex'));
      expect([bytes, refusal.reason]).toEqual([bytes, 'MALFORMED_REQUEST']);
      expect(refusal.message).not.toBe('');
    }
  });

  test('bytes that are no protobuf get the same answer over Connect', async () => {
    for (const [, method] of unaryMethods) {
      const refusal = await site.connectRefusal(method, Buffer.from('0a05616263', 'hex'));
      expect([method.name, refusal.reason]).toEqual([method.name, 'MALFORMED_REQUEST']);
    }
  });
});

describe('text that is no JSON of the request', () => {
  test.each([...unaryMethods, ['Subscribe', subscribe] as const])(
    'text that is no JSON of the request is rejected by %s',
    async (_name, method) => {
      for (const json of ['', '{', '[]', '"orders"', 'null', '{"noSuchField": 1}', '{"a": 1', '\u0000', '<xml/>']) {
        const refusal = await site.jsonRefusal(method, json);
        expect([json, refusal.reason]).toEqual([json, 'MALFORMED_REQUEST']);
        expect(refusal.message).toContain(method.input.typeName);
      }
    },
  );

  test.each([
    ['a number for a name', '{"topic": 7}'],
    ['an object for a list', '{"topic": "orders", "records": {}}'],
    ['a value that is not base64', '{"topic": "orders", "records": [{"value": "***"}]}'],
    ['a number for a header', '{"topic": "orders", "records": [{"headers": {"a": 1}}]}'],
    ['a partition that is no whole number', '{"topic": "orders", "records": [{}], "partition": 1.5}'],
    ['a partition beyond 32 bits', '{"topic": "orders", "records": [{}], "partition": 4294967296}'],
    ['an offset beyond 64 bits', '{"topic": "orders", "records": [{}], "expectedOffset": "99999999999999999999"}'],
    ['an unknown ack mode', '{"topic": "orders", "records": [{}], "ackMode": "ACK_MODE_MAYBE"}'],
    ['a field twice', '{"topic": "orders", "records": [{"value": "", "value": "*"}]}'],
  ])('JSON with %s is rejected', async (_what, json) => {
    expect((await site.jsonRefusal(publish, json)).reason).toBe('MALFORMED_REQUEST');
  });

  test('two idempotency keys that are not UTF-8 do not become one key, which would drop the second record', async () => {
    for (const byte of [0xff, 0xfe]) {
      const [before, after] = ['{"topic": "orders", "records": [{"idempotencyKey": "', '"}]}'];
      const body = Buffer.concat([Buffer.from(before), Buffer.from([byte]), Buffer.from(after)]);
      expect((await site.connectRefusal(publish, body, 'json')).reason).toBe('MALFORMED_REQUEST');
    }
  });

  test('JSON that is nested a hundred thousand deep does not crash the broker', async () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    expect((await site.jsonRefusal(publish, `{"topic": "orders", "records": ${deep}}`)).reason).toBe(
      'MALFORMED_REQUEST',
    );
  });
});

describe('one bad record inside a good batch', () => {
  const good = field(2, toBinary(RecordSchema, create(RecordSchema, { key: 'k', value: Buffer.from('good') })));
  const badUtf8 = Buffer.from([0xc3, 0x28]);
  test.each([
    ['bad UTF-8 in the key', field(1, badUtf8), 'INVALID_FIELD', 'records[2].key'],
    ['a surrogate in the key', field(1, Buffer.from([0xed, 0xa0, 0x80])), 'INVALID_FIELD', 'records[2].key'],
    ['bad UTF-8 in a header name', field(3, field(1, badUtf8)), 'INVALID_FIELD', 'records[2].headers'],
    ['bad UTF-8 in a header value', field(3, field(2, badUtf8)), 'INVALID_FIELD', 'records[2].headers'],
    ['bad UTF-8 in the idempotency key', field(4, badUtf8), 'INVALID_FIELD', 'records[2].idempotency_key'],
    ['a value longer than its record', Buffer.from([0x12, 5, 0x61]), 'MALFORMED_REQUEST', 'records[2].value'],
    ['a header longer than its record', Buffer.from([0x1a, 9, 0x0a]), 'MALFORMED_REQUEST', 'records[2].headers'],
    ['a header entry cut short', field(3, Buffer.from([0x0a, 4, 0x61])), 'MALFORMED_REQUEST', 'records[2].headers'],
    ['a key of the wrong wire type', Buffer.from([0x08, 1]), 'MALFORMED_REQUEST', 'records[2]'],
    ['a group', Buffer.from([0x2b, 0x2c]), 'MALFORMED_REQUEST', 'records[2]'],
  ])('one bad record, with %s, rejects its whole batch and is named', async (_what, bad, reason, at) => {
    const request = Buffer.concat([field(1, 'orders'), good, good, field(2, bad), good]);
    for (const refusal of [await site.rawRefusal(publish, request), await site.connectRefusal(publish, request)]) {
      expect(refusal).toMatchObject({ reason, fields: [at] });
      expect(refusal.message).toContain(at);
    }
  });

  test('a record whose length exceeds the request is rejected', async () => {
    const request = Buffer.concat([field(1, 'orders'), good, Buffer.from([0x12, 100]), good]);
    expect(await site.rawRefusal(publish, request)).toMatchObject({ reason: 'MALFORMED_REQUEST' });
  });

  test('a JSON text with half a surrogate pair is rejected', async () => {
    const json = String.raw`{"topic": "orders", "records": [{"key": "fine"}, {"key": "\ud800"}]}`;
    expect((await site.jsonRefusal(publish, json)).reason).toBe('MALFORMED_REQUEST');
  });
});

test('an unknown method, content type or verb over HTTP is answered 404, 415 or 405', async () => {
  const unknown = await fetch(`${site.broker.httpUrl}/millrace.v1.BrokerService/Nothing`, { method: 'POST' });
  expect(unknown.status).toBe(404);
  const body = toBinary(PublishRequestSchema, create(PublishRequestSchema, { topic: 'orders', records: [{}] }));
  const wrongType = await fetch(site.broker.httpUrl + methodPath(publish), { method: 'POST', body: Buffer.from(body) });
  expect(wrongType.status).toBe(415);
  const notPosted = await fetch(site.broker.httpUrl + methodPath(publish));
  expect(notPosted.status).toBe(405);
});

test('the log has every confirmed record and no other after malformed requests', async () => {
  await site.expectAllThere();
});
