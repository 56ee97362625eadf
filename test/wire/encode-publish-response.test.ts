import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AckMode, PublishResponseSchema } from '../../gen/millrace/v1/broker_pb.js';
import { encodePublishResponse } from '../../src/wire/encode-publish-response.ts';
import { property } from '../coordinator/property.ts';

const result = fc.record({
  partition: fc.oneof(fc.nat(300), fc.nat(2 ** 31 - 1)),
  offset: fc.oneof(fc.nat(300), fc.nat(Number.MAX_SAFE_INTEGER)),
  duplicate: fc.boolean(),
});

test('the answer to a publish is byte for byte what protobuf-es writes, zeros included', () => {
  fc.assert(
    fc.property(fc.array(result, { maxLength: 20 }), fc.boolean(), (results, keyed) => {
      const encoded = encodePublishResponse({
        partitions: Int32Array.from(results, ({ partition }) => partition),
        offsets: Float64Array.from(results, ({ offset }) => offset),
        duplicates: keyed ? Uint8Array.from(results, ({ duplicate }) => Number(duplicate)) : null,
      });
      const expected = create(PublishResponseSchema, {
        results: results.map(({ partition, offset, duplicate }) => ({
          partition,
          offset: BigInt(offset),
          duplicate: keyed && duplicate,
          lane: 0,
        })),
        ackMode: AckMode.COMMITTED,
      });
      expect(encoded.equals(toBinary(PublishResponseSchema, expected))).toBe(true);
    }),
    property(2_000),
  );
});

test('without a commit the answer says NONE and names no offsets', () => {
  const expected = toBinary(PublishResponseSchema, create(PublishResponseSchema, { ackMode: AckMode.NONE }));
  expect(encodePublishResponse(null)).toEqual(Buffer.from(expected));
});
