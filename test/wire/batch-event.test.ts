import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { PublishRequestSchema, PullResponseSchema, SubscribeResponseSchema } from '../../gen/millrace/v1/broker_pb.js';
import { appendFields, FramedEvent } from '../../src/wire/batch-event.ts';
import { createBatchCodec } from '../../src/wire/batch-codec.ts';
import { limits } from '../../src/limits/limits.ts';
import { scanPublish } from '../../src/wire/scan-publish.ts';
import { address, allRecords, decodeBatch, encodeRequest } from './delivery.ts';

const request = encodeRequest(create(PublishRequestSchema, { topic: 'orders', records: [{ key: 'a' }, { key: 'b' }] }));
const records = [allRecords(scanPublish(request, limits).records)];
const field = createBatchCodec().encode(address, [{ baseOffset: 0, appendTimeUs: 1_000_001, records }]).bytes;

test.each([0, 1, 127, 128, 2 ** 31, 2 ** 40, Number.MAX_SAFE_INTEGER])(
  'generation %d stands in front of the batch, also when it is 0',
  (generation) => {
    const event = fromBinary(SubscribeResponseSchema, new FramedEvent(generation, field).toBuffer());
    expect(event.generation).toBe(BigInt(generation));
    expect(event.event).toEqual({ case: 'batch', value: decodeBatch(field) });
  },
);

test('an event that is framed by the transport has the same bytes, behind what the transport wrote', () => {
  const event = new FramedEvent(300, field);
  const output = Buffer.alloc(event.byteLength + 5, 0xee);
  event.copy(output, 5);
  expect(output.subarray(5)).toEqual(new FramedEvent(300, field).toBuffer());
  expect(output.subarray(0, 5)).toEqual(Buffer.alloc(5, 0xee));
});

test('batches follow the rest of a response', () => {
  const small = toBinary(PullResponseSchema, create(PullResponseSchema, { memberId: 'm', generation: 0n }));
  const response = fromBinary(PullResponseSchema, appendFields(small, [field, field]));
  expect(response.memberId).toBe('m');
  expect(response.generation).toBe(0n);
  expect(response.batches).toEqual([decodeBatch(field), decodeBatch(field)]);
});
