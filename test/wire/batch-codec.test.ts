import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PublishRequestSchema, SubscribeResponseSchema } from '../../gen/millrace/v1/broker_pb.js';
import { BatchSchema, DeliveredRecordSchema, type Batch } from '../../gen/millrace/v1/record_pb.js';
import type { LogAddress, RecordSelection, RecordSet, StoredBatch } from '../../src/log/batch.ts';
import { limits } from '../../src/limits/limits.ts';
import { createBatchCodec } from '../../src/wire/batch-codec.ts';
import { scanPublish } from '../../src/wire/scan-publish.ts';
import { property } from '../coordinator/property.ts';
import { address, allRecords, content, decodeBatch, encodeRequest, ordinaryRequest } from './delivery.ts';
import { looseRequest } from './loose-encoding.ts';

const codec = createBatchCodec();

const recordSet: fc.Arbitrary<RecordSet> = fc
  .oneof(ordinaryRequest.map(encodeRequest), looseRequest)
  .map((request) => scanPublish(request, limits).records);

/**
 * The same records as they come from the database: a column for each part, with something else
 * between its elements.
 */
function columnar(set: RecordSet): RecordSet {
  const pieces: Buffer[] = [Buffer.from('....')];
  const bounds = new Int32Array(set.bounds.length);
  let end = 4;
  for (const column of [0, 4, 2, 6]) {
    for (let record = 0; record < set.count; record += 1) {
      const at = record * 8 + column;
      const part = set.buffer.subarray(set.bounds[at], set.bounds[at + 1]);
      if (part.length === 0) continue;
      pieces.push(part, Buffer.from([0, 0, 0, part.length & 0xff]));
      bounds[at] = end;
      bounds[at + 1] = end + part.length;
      end += part.length + 4;
    }
  }
  return { count: set.count, buffer: Buffer.concat(pieces), bounds };
}

const selection: fc.Arbitrary<RecordSelection> = fc
  .tuple(recordSet, fc.boolean(), fc.infiniteStream(fc.boolean()))
  .map(([set, fromDatabase, taken]) => {
    const indexes = allRecords(set).indexes.filter((index) => index === 0 || taken.next().value === true);
    return { set: fromDatabase ? columnar(set) : set, indexes };
  });

/**
 * The order of map entries is the one freedom that the format leaves; without it there is one
 * encoding.
 */
function withoutHeaders(batch: StoredBatch): StoredBatch {
  const records = batch.records.map(({ set, indexes }) => {
    const bounds = set.bounds.map((bound, at) => (at % 8 === 2 || at % 8 === 3 ? 0 : bound));
    return { set: { ...set, bounds }, indexes };
  });
  return { ...batch, records };
}

/** Neighbouring stored batches of one log. */
const storedBatches: fc.Arbitrary<StoredBatch[]> = fc
  .tuple(
    fc.oneof(fc.nat(300), fc.nat(Number.MAX_SAFE_INTEGER - 1_000)),
    fc.array(
      fc.tuple(
        fc.oneof(fc.constantFrom(0, 999_999, 1_000_000), fc.nat(4e15)),
        fc.array(selection, { minLength: 1, maxLength: 3 }),
      ),
      { minLength: 1, maxLength: 3 },
    ),
  )
  .map(([start, batches]) => {
    let baseOffset = start;
    return batches.map(([appendTimeUs, records]) => {
      const batch = { baseOffset, appendTimeUs, records };
      for (const { indexes } of records) baseOffset += indexes.length;
      return batch;
    });
  });

const anyAddress: fc.Arbitrary<LogAddress> = fc.record({
  topicId: fc.nat(),
  topicName: fc.stringMatching(/^[a-z.]{1,200}$/),
  partition: fc.oneof(fc.nat(300), fc.nat(2 ** 31 - 1)),
  lane: fc.nat(5),
});

/** What a consumer must see, built without the codec. */
function expectedBatch({ topicName, partition, lane }: LogAddress, batches: readonly StoredBatch[]): Batch {
  const records = batches.flatMap(({ baseOffset, appendTimeUs, records: selections }) =>
    selections
      .flatMap(({ set, indexes }) => [...indexes].map((index) => decodedRecord(set, index)))
      .map((record, i) => ({
        offset: BigInt(baseOffset + i),
        attempt: 1,
        appendTime: { seconds: BigInt(Math.floor(appendTimeUs / 1e6)), nanos: (appendTimeUs % 1e6) * 1_000 },
        record,
      })),
  );
  return create(BatchSchema, { topic: topicName, partition, lane, records });
}

function decodedRecord(set: RecordSet, index: number) {
  const part = (at: number) => set.buffer.subarray(set.bounds[index * 8 + at], set.bounds[index * 8 + at + 1]);
  // Headers and rest carry their tags, so they are a message of their own.
  const delivered = Buffer.concat([part(2), part(6)]);
  const framed = Buffer.concat([Buffer.from([0x22]), varint(delivered.length), delivered]);
  const { headers, idempotencyKey } = fromBinary(DeliveredRecordSchema, framed).record!;
  return { key: part(0).toString(), value: part(4), headers, idempotencyKey };
}

function varint(value: number): Buffer {
  return value < 0x80
    ? Buffer.from([value])
    : Buffer.concat([Buffer.from([(value & 0x7f) | 0x80]), varint(value >>> 7)]);
}

function comparable(batch: Batch): unknown {
  return {
    ...batch,
    records: batch.records.map((delivered) => ({ ...delivered, record: content(delivered.record!) })),
  };
}

describe('encode', () => {
  test('a consumer decodes what was stored, with offset and time of each record', () => {
    fc.assert(
      fc.property(anyAddress, storedBatches, (log, batches) => {
        const { bytes } = codec.encode(log, batches);
        expect(comparable(decodeBatch(bytes))).toEqual(comparable(expectedBatch(log, batches)));
      }),
      property(1_000),
    );
  });

  test('the bytes are those that protobuf-es writes, so that nothing in them depends on where they came from', () => {
    fc.assert(
      fc.property(anyAddress, storedBatches, (log, batches) => {
        const { bytes } = codec.encode(log, batches.map(withoutHeaders));
        const event = { case: 'batch' as const, value: decodeBatch(bytes) };
        const expected = toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { event }));
        expect(bytes.equals(expected)).toBe(true);
      }),
      property(1_000),
    );
  });

  test('every record lies between the ends that are given for it', () => {
    fc.assert(
      fc.property(storedBatches, (batches) => {
        const { bytes, recordsStart, recordEnds, count, baseOffset } = codec.encode(address, batches);
        expect(recordEnds).toHaveLength(count);
        expect(recordEnds[count - 1]).toBe(bytes.length);
        let start = recordsStart;
        for (let i = 0; i < count; i += 1) {
          const alone = fromBinary(BatchSchema, bytes.subarray(start, recordEnds[i]));
          expect(alone.records.map(({ offset }) => offset)).toEqual([BigInt(baseOffset + i)]);
          start = recordEnds[i]!;
        }
      }),
      property(500),
    );
  });

  test('small batches that share memory do not touch each other', () => {
    fc.assert(
      fc.property(fc.array(storedBatches, { minLength: 20, maxLength: 60 }), (list) => {
        const encoded = list.map((batches) => codec.encode(address, batches).bytes);
        const copies = encoded.map((bytes) => Buffer.from(bytes));
        list.forEach((batches) => codec.encode(address, batches));
        encoded.forEach((bytes, i) => expect(bytes.equals(copies[i]!)).toBe(true));
      }),
      property(20),
    );
  });

  test('a large record passes as it is', () => {
    const value = Buffer.alloc(1_000_000, 'x');
    const request = encodeRequest(create(PublishRequestSchema, { topic: 't', records: [{ key: 'k', value }] }));
    const set = scanPublish(request, limits).records;
    const { bytes } = codec.encode(address, [{ baseOffset: 0, appendTimeUs: 1, records: [allRecords(set)] }]);
    expect(value.equals(decodeBatch(bytes).records[0]!.record!.value)).toBe(true);
  });
});

describe('cut', () => {
  const chosen = fc.infiniteStream(
    fc.tuple(fc.boolean(), fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 2 ** 31 - 1 }))),
  );

  test('a part of a batch with other attempts is what protobuf-es would have written', () => {
    fc.assert(
      fc.property(anyAddress, storedBatches, chosen, (log, batches, choice) => {
        const batch = codec.encode(log, batches);
        const whole = decodeBatch(batch.bytes);
        const kept = whole.records
          .map((record, i) => ({ record, i, chosen: choice.next().value as [boolean, number] }))
          .filter(({ i, chosen: [take] }) => take || i === 0)
          .map(({ record, chosen: [, attempt] }) => ({ ...record, attempt }));
        const cut = codec.cut(
          batch,
          kept.map(({ offset }) => Number(offset)),
          kept.map(({ attempt }) => attempt),
        );
        expect(comparable(decodeBatch(cut))).toEqual(comparable({ ...whole, records: kept }));
      }),
      property(1_000),
    );
  });

  test('the whole batch at attempt 1 is cut to the same bytes', () => {
    fc.assert(
      fc.property(storedBatches, (batches) => {
        const batch = codec.encode(address, batches);
        const offsets = Array.from({ length: batch.count }, (_, i) => batch.baseOffset + i);
        const attempts = offsets.map(() => 1);
        expect(codec.cut(batch, offsets, attempts).equals(batch.bytes)).toBe(true);
      }),
      property(300),
    );
  });

  test('a record that is not in the batch is a bug, not garbage on the wire', () => {
    const set = scanPublish(encodeRequest(fc.sample(ordinaryRequest, { seed: 1, numRuns: 1 })[0]!), limits).records;
    const batch = codec.encode(address, [{ baseOffset: 5, appendTimeUs: 1, records: [allRecords(set)] }]);
    expect(() => codec.cut(batch, [4], [1])).toThrow('lies within its batch');
    expect(() => codec.cut(batch, [5 + batch.count], [1])).toThrow('lies within its batch');
  });
});
