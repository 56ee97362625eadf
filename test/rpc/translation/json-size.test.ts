import { describe, expect, test } from 'vitest';
import { AckRequestSchema, PublishRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import { decodeJson } from '../../../src/rpc/translation/decode.ts';
import { checkJsonSize } from '../../../src/rpc/translation/json-size.ts';
import { jsonWithEntries, listFields } from '../text/list-fields.ts';

function refusal(action: () => unknown): string {
  try {
    action();
    return 'accepted';
  } catch (error) {
    return error instanceof Rejection ? `${error.reason}: ${error.message}` : (error as Error).message;
  }
}

describe('JSON is refused by its bytes, before an object for each of its parts ends the broker', () => {
  const lists = listFields().filter(({ path }) => path.at(-1)!.fieldKind === 'list');

  test.each(lists)('two million entries: $name', (list) => {
    for (const entry of ['{}', '[]', '1', '""', '{"a":{}}']) {
      const json = jsonWithEntries(list, entry, 2_000_000);
      expect(refusal(() => decodeJson(list.method.input, json))).toMatch(/MALFORMED_REQUEST.*(entries|keys)$/);
    }
  });

  test('lists in each other, four million deep', () => {
    const json = Buffer.concat([Buffer.from('{"acks":'), Buffer.alloc(4_000_000, '[')]);
    expect(refusal(() => decodeJson(AckRequestSchema, json))).toMatch(/MALFORMED_REQUEST.*deeper than 32 levels$/);
    expect(refusal(() => decodeJson(AckRequestSchema, Buffer.alloc(4_000_000, '{"a":')))).toMatch(/deeper than 32/);
  });

  test('a million keys', () => {
    const keys = Array.from({ length: 1_000_000 }, (_, index) => `"${index}":0`);
    expect(refusal(() => decodeJson(PublishRequestSchema, Buffer.from(`{${keys.join(',')}}`)))).toMatch(
      /more than \d+ keys$/,
    );
  });
});

test('brackets, commas and colons within a text count for nothing, after any number of backslashes', () => {
  const text = '[{,:'.repeat(100_000);
  for (const before of ['', '\\', '\\\\', '"', '\\"', '\\\\"'])
    checkJsonSize(Buffer.from(JSON.stringify([before + text, before])));
});

test('the limits themselves are allowed', () => {
  const nested = '['.repeat(limits.requestDepthMax) + ']'.repeat(limits.requestDepthMax);
  checkJsonSize(Buffer.from(nested));
  checkJsonSize(Buffer.from(JSON.stringify(Array.from({ length: limits.jsonElementsMax }, () => 0))));
  const records = Array.from({ length: limits.publishRecordsMax }, () => ({
    key: 'a',
    value: '',
    headers: { a: '1' },
  }));
  checkJsonSize(Buffer.from(JSON.stringify({ topic: 'orders', records })));
});

test('text that is no JSON ends the pass, and JSON.parse reports it', () => {
  for (const json of ['"', '"\\', ']]]', '{"a', ',:,:', '']) checkJsonSize(Buffer.from(json));
});
