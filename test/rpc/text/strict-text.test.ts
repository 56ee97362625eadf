import { ScalarType, type DescMethod } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { failureOf, GrpcClient } from '../grpc-client.ts';
import { connectRefusal, grpcRefusal, type ConnectError, type Refusal } from '../../broker/refusal.ts';
import { serve, type Serving } from '../serving.ts';
import { connectStreamRefusal } from './connect-stream-refusal.ts';
import { binaryWith, jsonWith, requestFields, type Target } from './request-fields.ts';

const { publish, publishStream } = BrokerService.method;

/**
 * Not UTF-8: a byte that never occurs, a character cut short, half of a surrogate pair, an overlong
 * form.
 */
const notUtf8 = ['ff', 'c328', 'eda080', 'c080'].map((hex) => Buffer.from(hex, 'hex'));
const halfPairs = [String.raw`"\ud800"`, String.raw`"a\udc00b"`];

const texts = requestFields([ScalarType.STRING]);
const int64s = requestFields([ScalarType.INT64, ScalarType.UINT64]);
const int32s = requestFields([ScalarType.INT32, ScalarType.UINT32]);

/** What a call over Connect answers; null if it was not refused. */
async function refusalOf(serving: Serving, method: DescMethod, body: Buffer<ArrayBuffer>, format: string) {
  if (method.methodKind === 'bidi_streaming') return connectStreamRefusal(serving.httpPort, method, body, format);
  const streams = method.methodKind !== 'unary';
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  const response = await fetch(`${serving.httpUrl}/${method.parent.typeName}/${method.name}`, {
    method: 'POST',
    headers: { 'content-type': `application/${streams ? 'connect+' : ''}${format}` },
    body: streams ? Buffer.concat([head, body]) : body,
  });
  const answer = Buffer.from(await response.arrayBuffer());
  if (!streams) return response.ok ? null : connectRefusal(JSON.parse(answer.toString()) as ConnectError);
  return connectRefusal((JSON.parse(answer.subarray(5).toString()) as { error: ConnectError }).error);
}

async function grpcRefusalOf(grpc: GrpcClient, method: DescMethod, request: Buffer): Promise<Refusal> {
  return grpcRefusal(await failureOf(grpc.raw(method, request)));
}

function jsonText(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from('"a'), bytes, Buffer.from('"')]);
}

async function expectMalformed(serving: Serving, { name, method }: Target, body: Buffer<ArrayBuffer>) {
  const refusal = await refusalOf(serving, method, body, 'json');
  expect([name, body.toString('latin1'), refusal?.code, refusal?.reason]).toEqual([
    name,
    body.toString('latin1'),
    'INVALID_ARGUMENT',
    'MALFORMED_REQUEST',
  ]);
}

test('the requests have texts and numbers, or this file would prove nothing', () => {
  expect(texts.length).toBeGreaterThan(60);
  expect(int64s.length).toBeGreaterThan(15);
  expect(int32s.length).toBeGreaterThan(15);
  expect(texts.map(({ name }) => name)).toContain('Publish: records.headers (map key)');
  expect(texts.map(({ name }) => name)).toContain('PublishStream: records.idempotency_key');
});

describe('text that is not UTF-8 would be stored under replaced characters, and two keys would be one', () => {
  test('broken text in JSON is rejected in every text of every call', { timeout: 120_000 }, async () => {
    const serving = await serve();
    for (const target of texts) {
      for (const bytes of notUtf8) await expectMalformed(serving, target, jsonWith(target, jsonText(bytes)));
      for (const half of halfPairs) await expectMalformed(serving, target, jsonWith(target, half));
    }
    expect(serving.broker.published).toEqual([]);
    expect(serving.bugs).toEqual([]);
  });

  test(
    'broken text in protobuf is rejected in every text of every call, over both edges',
    { timeout: 120_000 },
    async () => {
      const serving = await serve();
      const grpc = new GrpcClient(serving.grpcPort);
      for (const target of texts) {
        for (const bytes of notUtf8) {
          const { method, name } = target;
          const body = binaryWith(target, bytes);
          // The scan of a publish names the field that is wrong.
          const reason = method === publish || method === publishStream ? 'INVALID_FIELD' : 'MALFORMED_REQUEST';
          const refusals = [await refusalOf(serving, method, body, 'proto')];
          if (method.methodKind === 'unary') refusals.push(await grpcRefusalOf(grpc, method, body));
          for (const refusal of refusals) {
            // connect-node decodes the messages of a stream before the scan sees them.
            const allowed = method === publishStream ? [reason, 'MALFORMED_REQUEST'] : [reason];
            expect([name, refusal?.code]).toEqual([name, 'INVALID_ARGUMENT']);
            expect(allowed, name).toContain(refusal?.reason);
          }
        }
      }
      expect(serving.broker.published).toEqual([]);
      expect(serving.bugs).toEqual([]);
    },
  );

  test('over gRPC-Web in JSON, and where the client says that nothing is compressed', async () => {
    const serving = await serve();
    const body = Buffer.concat([Buffer.from('{"name":"a'), Buffer.from('ff', 'hex'), Buffer.from('"}')]);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    const url = `${serving.httpUrl}/millrace.v1.TopicService/GetTopic`;
    const web = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/grpc-web+json' },
      body: Buffer.concat([head, body]),
    });
    expect(await web.text()).toMatch(/grpc-status: 3\r\n/);
    const identity = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-encoding': 'identity' },
      body,
    });
    expect(connectRefusal((await identity.json()) as ConnectError)).toMatchObject({ reason: 'MALFORMED_REQUEST' });
  });

  test('a byte order mark before the JSON is refused, and inside a text it is text', async () => {
    const serving = await serve();
    const getTopic = TopicService.method.getTopic;
    const marked = await refusalOf(serving, getTopic, Buffer.from('\ufeff{"name":"orders"}'), 'json');
    expect(marked).toMatchObject({ reason: 'MALFORMED_REQUEST' });
    const json = '{"topic":"orders","partition":0,"records":[{"key":"\ufeffk"}]}';
    expect(await refusalOf(serving, publish, Buffer.from(json), 'json')).toBe(null);
    const { records } = serving.broker.published[0]!;
    expect(records.buffer.subarray(records.bounds[0], records.bounds[1]).toString()).toBe('\ufeffk');
  });

  test('a path or query of /consumer-groups that is not UTF-8 names no group', async () => {
    const { httpUrl } = await serve();
    for (const path of ['/%ff', '?topic=%ff', '?pageToken=%c3%28', '?topic=%', '?%ff=1', '/orders%']) {
      const response = await fetch(`${httpUrl}/consumer-groups${path}`);
      expect([path, response.status, await response.json()]).toMatchObject([
        path,
        400,
        { reason: 'MALFORMED_REQUEST' },
      ]);
    }
  });
});

describe('a text that is not a decimal number would be taken for an offset that nobody wrote', () => {
  const never = ['""', '" 1"', '"1 "', '"+1"', '"0x1"', '"0b1"', '"0o7"', '"1_0"', '"--1"', '"one"', '"\\t1"', 'true'];
  test(
    'text that is no number is rejected in every number of 64 bits of every call',
    { timeout: 120_000 },
    async () => {
      const serving = await serve();
      for (const target of int64s) {
        for (const text of [...never, '"1e3"', '"1.0"', '1.5']) {
          await expectMalformed(serving, target, jsonWith(target, text));
        }
      }
    },
  );

  test(
    'text that is no number is rejected in every number of 32 bits of every call',
    { timeout: 120_000 },
    async () => {
      const serving = await serve();
      for (const target of int32s) {
        for (const text of [...never, '"1.5"', '1.5', '"Infinity"']) {
          await expectMalformed(serving, target, jsonWith(target, text));
        }
      }
    },
  );

  test.each(['0', '1', '"1"', '1.0', '1e3', '"0"', '-0'])(
    '%s is a number of 64 bits, as the JSON mapping of protobuf defines it',
    async (text) => {
      const serving = await serve();
      const json = `{"topic":"orders","partition":${text},"expectedOffset":${text},"records":[{"key":"k"}]}`;
      const refusal = await refusalOf(serving, publish, Buffer.from(json), 'json');
      expect(refusal?.reason).not.toBe('MALFORMED_REQUEST');
    },
  );

  test.each(['"1e3"', '"1.0"', '"10"'])('%s is a number of 32 bits', async (text) => {
    const serving = await serve();
    const json = `{"topic":"orders","partition":${text},"records":[{"key":"k"}]}`;
    const refusal = await refusalOf(serving, publish, Buffer.from(json), 'json');
    expect(refusal?.reason).not.toBe('MALFORMED_REQUEST');
  });

  test('a duration with something behind it is no duration', async () => {
    const serving = await serve();
    for (const wait of ['1s and more', '1.0000000001s', ' 1s', '1', '1ss']) {
      const json = JSON.stringify({ group: 'g', topics: ['orders'], wait });
      const refusal = await refusalOf(serving, BrokerService.method.pull, Buffer.from(json), 'json');
      expect([wait, refusal?.reason]).toEqual([wait, 'MALFORMED_REQUEST']);
    }
  });

  test('a day that no calendar has is no timestamp, or a group would be reset to another day', async () => {
    const serving = await serve();
    const reset = async (day: string): Promise<string | undefined> => {
      const json = JSON.stringify({ group: 'g', topics: ['orders'], timestamp: `${day}T12:00:00Z` });
      return (await refusalOf(serving, GroupService.method.resetOffsets, Buffer.from(json), 'json'))?.reason;
    };
    for (const day of ['2026-02-30', '2026-02-29', '2026-04-31']) {
      expect([day, await reset(day)]).toEqual([day, 'MALFORMED_REQUEST']);
    }
    for (const day of ['2028-02-29', '2026-12-31', '0001-01-01', '9999-12-31']) {
      expect([day, await reset(day)]).not.toEqual([day, 'MALFORMED_REQUEST']);
    }
  });
});
