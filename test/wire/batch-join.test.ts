import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BatchSchema } from '../../gen/millrace/v1/record_pb.js';
import { limits } from '../../src/limits/limits.ts';
import type { EncodedBatch, StoredBatch } from '../../src/log/batch.ts';
import { createBatchCodec } from '../../src/wire/batch-codec.ts';
import { scanPublish } from '../../src/wire/scan-publish.ts';
import { property } from '../coordinator/property.ts';
import { address, allRecords, decodeBatch, encodeRequest, ordinaryRequest } from './delivery.ts';

const codec = createBatchCodec();

/**
 * Neighbouring stored batches, from where the varint of an offset has one byte to where it has
 * eight.
 */
const neighbours: fc.Arbitrary<StoredBatch[]> = fc
  .tuple(
    fc.oneof(fc.nat(300), fc.nat(Number.MAX_SAFE_INTEGER - 1_000)),
    fc.array(fc.tuple(fc.nat(4e15), ordinaryRequest), { minLength: 1, maxLength: 5 }),
  )
  .map(([start, requests]) => {
    let baseOffset = start;
    return requests.map(([appendTimeUs, request]) => {
      const set = scanPublish(encodeRequest(request), limits).records;
      const batch = { baseOffset, appendTimeUs, records: [allRecords(set)] };
      baseOffset += set.count;
      return batch;
    });
  });

const encodeEach = (batches: readonly StoredBatch[]): EncodedBatch[] =>
  batches.map((batch) => codec.encode(address, [batch]));

test('a reader who is behind gets the same bytes as if the batches had been encoded together', () => {
  fc.assert(
    fc.property(neighbours, (batches) => {
      const joined = codec.join(encodeEach(batches));
      const together = codec.encode(address, batches);
      expect(joined.bytes.equals(together.bytes)).toBe(true);
      expect({ ...joined, bytes: null }).toEqual({ ...together, bytes: null });
    }),
    property(500),
  );
});

test('joining what was joined before loses no record and moves no end', () => {
  fc.assert(
    fc.property(neighbours, fc.nat(4), (batches, at) => {
      const encoded = encodeEach(batches);
      const cut = 1 + (at % encoded.length);
      const first = codec.join(encoded.slice(0, cut));
      const all = codec.join([first, ...encoded.slice(cut)]);
      const once = codec.join(encoded);
      expect(all.bytes.equals(once.bytes)).toBe(true);
      expect(all.recordEnds).toEqual(once.recordEnds);
    }),
    property(200),
  );
});

test('the batches that are joined stay as they are: other readers hold them', () => {
  fc.assert(
    fc.property(neighbours, (batches) => {
      const encoded = encodeEach(batches);
      const copies = encoded.map(({ bytes }) => Buffer.from(bytes));
      codec.join(encoded).bytes.fill(0xee);
      encoded.forEach(({ bytes }, i) => expect(bytes.equals(copies[i]!)).toBe(true));
    }),
    property(100),
  );
});

test('a part of a joined batch is cut at the right records', () => {
  fc.assert(
    fc.property(neighbours, fc.infiniteStream(fc.nat(2)), (batches, choice) => {
      const joined = codec.join(encodeEach(batches));
      const whole = decodeBatch(joined.bytes);
      const kept = whole.records.filter((_, i) => i === 0 || choice.next().value !== 0);
      const attempts = kept.map((_, i) => 1 + (i % 3));
      const cut = codec.cut(
        joined,
        kept.map(({ offset }) => Number(offset)),
        attempts,
      );
      const records = kept.map((record, i) => ({ ...record, attempt: attempts[i]! }));
      expect(decodeBatch(cut)).toEqual(create(BatchSchema, { ...whole, records }));
    }),
    property(200),
  );
});

test('joining nothing is a bug, not an empty message', () => {
  expect(() => codec.join([])).toThrow('a batch to join is given');
});
