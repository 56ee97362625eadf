import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { PublishRequestSchema, type AckMode } from '../../gen/millrace/v1/broker_pb.js';
import { Rejection } from '../../src/errors/rejections/rejection.ts';
import { limits } from '../../src/limits/limits.ts';
import { scanPublish } from '../../src/wire/scan-publish.ts';
import { content, deliver, encodeRequest } from './delivery.ts';

type Request = MessageInitShape<typeof PublishRequestSchema>;

function encoded(request: Request): Buffer {
  return encodeRequest(create(PublishRequestSchema, { topic: 'orders', records: [{ key: 'a' }], ...request }));
}

function refusal(request: Buffer, recordBytesMax: number = limits.recordBytesMax): Rejection {
  try {
    scanPublish(request, { recordBytesMax });
  } catch (error) {
    if (error instanceof Rejection) return error;
    throw error;
  }
  throw new Error('the request was accepted');
}

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex');
}

/** A length-delimited field of at most 127 bytes. */
function field(number: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2, value.length]), value]);
}

/** A good record, then one of these bytes: so its index is 1. */
function withRecord(record: Buffer): Buffer {
  return Buffer.concat([encoded({}), field(2, record)]);
}

const { recordKeyBytesMax, recordHeadersMax, recordHeaderBytesMax, idempotencyKeyBytesMax, publishRecordsMax } = limits;

describe('a request beyond a limit is refused, with the field, the limit and what it has', () => {
  const manyHeaders = Object.fromEntries(Array.from({ length: recordHeadersMax + 1 }, (_, i) => [`h${i}`, '']));
  const cases: readonly (readonly [string, Request, string, string])[] = [
    ['no topic', { topic: '' }, 'topic', 'is required'],
    ['a long topic', { topic: 'x'.repeat(201) }, 'topic', 'has 201 characters, more than name_chars_max = 200'],
    ['a topic with a slash', { topic: 'a/b' }, 'topic', 'has characters other than A-Z a-z 0-9 . _ -'],
    ['a topic beyond ASCII', { topic: 'Straße' }, 'topic', 'has characters other than A-Z a-z 0-9 . _ -'],
    ['no records', { records: [] }, 'records', 'is empty; at least 1 record is needed'],
    [
      'too many records',
      { records: Array.from({ length: publishRecordsMax + 2 }, () => ({})) },
      'records',
      'has 10002 entries, more than publish_records_max = 10000',
    ],
    ['a negative partition', { partition: -1 }, 'partition', 'is -1; it must not be negative'],
    ['a negative lane', { lane: -1, expectedOffset: 0n }, 'lane', 'is -1; it must not be negative'],
    ['a lane of nothing', { lane: 0 }, 'lane', 'is that of expected_offset, which is not set'],
    ['an unknown ack mode', { ackMode: 3 as AckMode }, 'ack_mode', 'is 3, which is not a known mode'],
    ['a negative ack mode', { ackMode: -1 as AckMode }, 'ack_mode', 'is -1, which is not a known mode'],
    ['a negative offset', { expectedOffset: -1n }, 'expected_offset', 'is -1; it must not be negative'],
    [
      'an offset that is no exact number',
      { expectedOffset: 2n ** 53n },
      'expected_offset',
      `must not be more than ${Number.MAX_SAFE_INTEGER}`,
    ],
    [
      'a long key',
      { records: [{}, { key: 'ü'.repeat(recordKeyBytesMax / 2) + 'x' }] },
      'records[1].key',
      'has 1025 bytes, more than record_key_bytes_max = 1024',
    ],
    [
      'many headers',
      { records: [{}, {}, { headers: manyHeaders }] },
      'records[2].headers',
      'has 65 entries, more than record_headers_max = 64',
    ],
    [
      'long headers',
      { records: [{ headers: { h: 'x'.repeat(recordHeaderBytesMax) } }] },
      'records[0].headers',
      'has 32769 bytes, more than record_header_bytes_max = 32768',
    ],
    [
      'a long idempotency key',
      { records: [{ idempotencyKey: 'x'.repeat(idempotencyKeyBytesMax + 1) }] },
      'records[0].idempotency_key',
      'has 257 bytes, more than idempotency_key_bytes_max = 256',
    ],
    [
      'a long record',
      { records: [{ key: 'key', headers: { h: 'v' }, value: new Uint8Array(limits.recordBytesMax - 4) }] },
      'records[0]',
      'has 1048577 bytes, more than record_bytes_max = 1048576',
    ],
  ];

  test.each(cases)('%s', (_, request, path, description) => {
    const { reason, violations } = refusal(encoded(request));
    expect({ reason, violations }).toEqual({
      reason: 'INVALID_FIELD',
      violations: [{ field: path, description }],
    });
  });

  test('a long request', () => {
    const records = Array.from({ length: 5 }, () => ({ value: new Uint8Array(limits.publishBytesMax / 5) }));
    const { reason, violations } = refusal(encoded({ records }));
    expect(reason).toBe('REQUEST_TOO_LARGE');
    expect(violations[0]!.description).toMatch(/has \d+ bytes, more than publish_bytes_max = 4194304/);
  });

  test('a record beyond the operator’s own limit', () => {
    const { violations } = refusal(encoded({ records: [{ value: new Uint8Array(101) }] }), 100);
    expect(violations[0]!.description).toBe('has 101 bytes, more than record_bytes_max = 100');
  });
});

test('what is exactly at its limit passes', () => {
  const headers = Object.fromEntries(
    Array.from({ length: recordHeadersMax }, (_, i) => [`header-${i + 100}`, 'x'.repeat(502)]),
  );
  const full = { key: 'k'.repeat(recordKeyBytesMax), headers, idempotencyKey: 'i'.repeat(idempotencyKeyBytesMax) };
  expect(deliver(scanPublish(encoded({ topic: 't'.repeat(200), records: [full] }), limits))).toHaveLength(1);
  const records = Array.from({ length: publishRecordsMax }, () => ({}));
  expect(scanPublish(encoded({ records }), limits).records.count).toBe(publishRecordsMax);
  const whole = [{ key: 'key', headers: { h: 'v' }, value: new Uint8Array(limits.recordBytesMax - 5) }];
  expect(deliver(scanPublish(encoded({ records: whole }), limits))[0]!.value).toHaveLength(limits.recordBytesMax - 5);
});

describe('one bad record in a good request is refused, with its path', () => {
  const cases: readonly (readonly [string, Buffer, string, string])[] = [
    ['a key with bad UTF-8', hex('0a 02 c3 28'), 'INVALID_FIELD', 'records[1].key'],
    ['a key with a surrogate', hex('0a 03 ed a0 80'), 'INVALID_FIELD', 'records[1].key'],
    ['a key with bad UTF-8 that a later key replaces', hex('0a 01 ff 0a 01 61'), 'INVALID_FIELD', 'records[1].key'],
    ['a long key with bad UTF-8', field(1, Buffer.alloc(100, 0xbf)), 'INVALID_FIELD', 'records[1].key'],
    ['a header name with bad UTF-8', hex('1a 05 0a 01 ff 12 00'), 'INVALID_FIELD', 'records[1].headers'],
    ['a header value with bad UTF-8', hex('1a 05 0a 00 12 01 ff'), 'INVALID_FIELD', 'records[1].headers'],
    ['an idempotency key with bad UTF-8', hex('22 01 80'), 'INVALID_FIELD', 'records[1].idempotency_key'],
    ['a key longer than the record', hex('0a 05 61'), 'MALFORMED_REQUEST', 'records[1].key'],
    ['a value longer than the record', hex('12 05 61'), 'MALFORMED_REQUEST', 'records[1].value'],
    ['a value with a length of 2^32', hex('12 80 80 80 80 10'), 'MALFORMED_REQUEST', 'records[1].value'],
    ['a header name longer than its entry', hex('1a 03 0a 05 61 12 00'), 'MALFORMED_REQUEST', 'records[1].headers'],
    ['a header entry longer than the record', hex('1a 05 0a 01 61'), 'MALFORMED_REQUEST', 'records[1].headers'],
    ['an unknown field longer than the record', hex('2d 01 02'), 'MALFORMED_REQUEST', 'records[1]'],
    ['an unknown number without an end', hex('28 ff ff ff ff ff ff ff ff ff ff 01'), 'MALFORMED_REQUEST', 'records[1]'],
    ['a tag alone', hex('0a'), 'MALFORMED_REQUEST', 'records[1].key'],
    ['half a tag', hex('8a'), 'MALFORMED_REQUEST', 'records[1]'],
    ['a tag of 6 bytes', hex('8a 80 80 80 80 00 00'), 'MALFORMED_REQUEST', 'records[1]'],
    ['a field with the number 0', hex('02 00'), 'MALFORMED_REQUEST', 'records[1]'],
    ['a group', hex('2b 2c'), 'MALFORMED_REQUEST', 'records[1]'],
    ['the end of a group', hex('2c'), 'MALFORMED_REQUEST', 'records[1]'],
    ['wire type 7', hex('2f'), 'MALFORMED_REQUEST', 'records[1]'],
    ['a key that is a number', hex('08 01'), 'MALFORMED_REQUEST', 'records[1]'],
    ['a header name that is a number', hex('1a 02 08 01'), 'MALFORMED_REQUEST', 'records[1].headers'],
  ];

  test.each(cases)('%s', (_, record, reason, path) => {
    const rejection = refusal(withRecord(record));
    expect(rejection.reason).toBe(reason);
    expect(rejection.violations.map((violation) => violation.field)).toEqual([path]);
  });

  test('a record that reaches over the end of the request', () => {
    const rejection = refusal(Buffer.concat([encoded({}), hex('12 7f 0a 01 61')]));
    expect(rejection.violations).toEqual([
      { field: 'records[1]', description: 'has a length of 127 bytes where 3 are left' },
    ]);
  });

  test('bytes that are no message at all', () => {
    expect(refusal(Buffer.from('{"topic":"orders"}')).reason).toBe('MALFORMED_REQUEST');
    expect(refusal(Buffer.alloc(0)).violations[0]!.field).toBe('topic');
  });
});

describe('what is stored is canonical, so that any decoder and the SQL view can read it', () => {
  const stored = (record: Buffer) => {
    const { records } = scanPublish(Buffer.concat([field(1, Buffer.from('orders')), field(2, record)]), limits);
    const part = (at: number) => records.buffer.subarray(records.bounds[at], records.bounds[at + 1]).toString('hex');
    return { key: part(0), headers: part(2), value: part(4), rest: part(6) };
  };
  const entry = '1a060a016b120176';

  const cases: readonly (readonly [string, Buffer, string])[] = [
    ['an ordinary entry', hex(entry), entry],
    ['entries with another field between them', hex(`${entry} 0a 01 61 ${entry}`), entry + entry],
    ['value before name', hex('1a 06 12 01 76 0a 01 6b'), entry],
    ['no value', hex('1a 03 0a 01 6b'), '1a050a016b1200'],
    ['no name', hex('1a 03 12 01 76'), '1a050a00120176'],
    ['an empty entry', hex('1a 00'), '1a040a001200'],
    ['a name twice', hex('1a 09 0a 01 61 0a 01 6b 12 01 76'), entry],
    ['two names that look like name and value', hex('1a 06 0a 00 0a 02 12 61'), '1a060a0212611200'],
    ['an unknown field', hex('1a 08 0a 01 6b 18 07 12 01 76'), entry],
    ['a padded length', hex('1a 86 00 0a 01 6b 12 01 76'), entry],
    ['a padded length inside', hex('1a 07 0a 81 00 6b 12 01 76'), entry],
  ];

  test.each(cases)('headers with %s', (_, record, headers) => {
    expect(stored(record).headers).toBe(headers);
  });

  test('an idempotency key with a padded length is framed anew', () => {
    expect(stored(hex('22 81 00 69')).rest).toBe('220169');
    expect(stored(hex('a2 00 01 69')).rest).toBe('220169');
    expect(stored(hex('22 01 69')).rest).toBe('220169');
  });

  test('an empty part is an absent one, also when it replaces another', () => {
    const { key, value, rest } = stored(hex('0a 01 61 12 01 62 22 01 63 22 00 12 00 0a 00'));
    expect({ key, value, rest }).toEqual({ key: '', value: '', rest: '' });
  });

  test('several records with headers to be joined do not mix them up', () => {
    /** A header without a value, and the key. */
    const scattered = (text: string) =>
      Buffer.concat([field(3, field(1, Buffer.from(text))), field(1, Buffer.from(text))]);
    const request = Buffer.concat([encoded({}), field(2, scattered('b')), field(2, scattered('c'))]);
    expect(deliver(scanPublish(request, limits)).map(content)).toEqual([
      { key: 'a', value: '', headers: [], idempotencyKey: '' },
      { key: 'b', value: '', headers: [['b', '']], idempotencyKey: '' },
      { key: 'c', value: '', headers: [['c', '']], idempotencyKey: '' },
    ]);
  });
});

test('idempotency keys stand at the index of their records', () => {
  const records = [{}, { idempotencyKey: 'x' }, {}, { idempotencyKey: 'ÿ' }, {}];
  expect(scanPublish(encoded({ records }), limits).idempotencyKeys).toEqual([null, 'x', null, 'ÿ', null]);
  expect(scanPublish(encoded({}), limits).idempotencyKeys).toBeNull();
});

test('a request of a stream carries the token of its stream', () => {
  const token = { failure: null };
  expect(scanPublish(encoded({}), limits, token).stream).toBe(token);
  expect(scanPublish(encoded({}), limits).stream).toBeNull();
});

test('the bounds of a request are its own: the next scan leaves them alone', () => {
  const first = scanPublish(encoded({ records: [{ key: 'first' }] }), limits);
  const before = [...first.records.bounds];
  scanPublish(encoded({ topic: 'another-topic', records: [{ value: Buffer.from('x') }, {}] }), limits);
  expect([...first.records.bounds]).toEqual(before);
});
