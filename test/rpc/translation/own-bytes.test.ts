import { ScalarType } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { decodeBinary } from '../../../src/rpc/translation/decode.ts';
import { binaryWith, requestFields } from '../text/request-fields.ts';

/** The `bytes` of this length in a decoded message, however deep. */
function bytesIn(value: unknown, length: number): Uint8Array[] {
  if (value instanceof Uint8Array) return value.length === length ? [value] : [];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap((inner) => bytesIn(inner, length));
}

const fields = requestFields([ScalarType.BYTES]);

test('there are bytes in requests', () => {
  expect(fields.length).toBeGreaterThanOrEqual(4);
});

/** Field 2000, which no request has, with 1 MB. */
const padding = Buffer.concat([Buffer.from([0x82, 0x7d, 0xc0, 0x84, 0x3d]), Buffer.alloc(1_000_000)]);

test.each(fields)('three bytes of a member do not keep the megabyte of their request alive: $name', (target) => {
  const request = Buffer.concat([binaryWith(target, Buffer.from('abc')), padding]);
  const kept = bytesIn(decodeBinary(target.method.input, request), 3);
  expect(kept.map((bytes) => [Buffer.from(bytes).toString(), bytes.buffer.byteLength])).toEqual([['abc', 3]]);
});
