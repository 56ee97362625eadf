import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { scanEvent } from '../../bench/client/lean.ts';
import { SubscribeResponseSchema } from '../../gen/millrace/v1/broker_pb.js';

const seed = Number(process.env['SEED'] ?? 1);

const delivered = fc.record({
  offset: fc.bigInt({ min: 0n, max: 2n ** 53n - 1n }),
  attempt: fc.integer({ min: 1, max: 5 }),
  record: fc.record({
    key: fc.string(),
    value: fc.uint8Array({ maxLength: 300 }),
    headers: fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }),
  }),
});

describe('lean client', () => {
  it('reads of any batch what an ack of it needs', () => {
    const batch = fc.record({
      topic: fc.string(),
      partition: fc.nat(1000),
      lane: fc.nat(300),
      records: fc.array(delivered, { minLength: 1, maxLength: 20 }),
    });
    fc.assert(
      fc.property(batch, fc.bigInt({ min: 0n, max: 2n ** 40n }), (value, generation) => {
        const message = create(SubscribeResponseSchema, { generation, event: { case: 'batch', value } });
        const { batch: scanned } = scanEvent(Buffer.from(toBinary(SubscribeResponseSchema, message)));
        expect(scanned).toEqual({
          partition: value.partition,
          lane: value.lane,
          records: value.records.length,
          lastOffset: Number(value.records.at(-1)!.offset),
        });
      }),
      { seed },
    );
  });

  it('any other event is decoded', () => {
    const joined = { memberId: 'm-1', generation: 3n };
    const message = create(SubscribeResponseSchema, { generation: 3n, event: { case: 'joined', value: joined } });
    const { other } = scanEvent(Buffer.from(toBinary(SubscribeResponseSchema, message)));
    expect(other?.event).toMatchObject({ case: 'joined', value: joined });
  });
});
