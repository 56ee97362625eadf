import fc from 'fast-check';
import { Client } from 'pg';
import { expect, test } from 'vitest';
import { boundsPerRecord, type RecordSelection, type RecordSet } from '../../../src/log/batch.ts';
import {
  byteaArray,
  decodePart,
  recordPart,
  recordParts,
  type RecordPart,
} from '../../../src/storage/pg/bytea-array.ts';
import { property } from '../../coordinator/property.ts';
import type { BinaryValue } from '../../../src/storage/pg/parameter.ts';
import { createTestDatabase } from '../../support/database.ts';
import { selection, type Parts } from '../../log/records.ts';

const bytes = fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array));
const record: fc.Arbitrary<Parts> = fc.record({ key: bytes, headers: bytes, value: bytes, rest: bytes });
const records = fc.array(record, { maxLength: 12 });
/** Some records of a request, in order, like those of one partition. */
const chosen = fc.tuple(records, fc.infiniteStream(fc.boolean())).map(([all, takes]) => {
  const taken = all
    .map((one) => ({ one, take: takes.next().value as boolean }))
    .map(({ one, take }, index) => ({ one, take, index }));
  const indexes = taken.filter(({ take }) => take).map(({ index }) => index);
  const { set } = selection(all);
  return { selection: { set, indexes: Int32Array.from(indexes) }, records: indexes.map((index) => all[index]!) };
});
const parts = Object.entries({
  key: recordParts.keys,
  headers: recordParts.headers,
  value: recordParts.values,
  rest: recordParts.rests,
}) as [keyof Parts, RecordPart][];

const empty = Buffer.alloc(0);

/** The bytes of the value in a message. It must fill exactly its part of the message. */
function written(value: BinaryValue): Buffer {
  const around = 3;
  const message = Buffer.alloc(around + value.byteLength + around, 0xbb);
  value.writeTo(message, around);
  const end = around + value.byteLength;
  expect(Buffer.concat([message.subarray(0, around), message.subarray(end)])).toEqual(Buffer.alloc(2 * around, 0xbb));
  return message.subarray(around, end);
}

const encoded = (...elements: Buffer[]): Buffer => written(byteaArray(elements));

test('every part of every record is the same after a write and a read', () => {
  fc.assert(
    fc.property(fc.array(chosen, { minLength: 1, maxLength: 4 }), fc.nat(30), (requests, before) => {
      const selections: RecordSelection[] = requests.map((request) => request.selection);
      const all = requests.flatMap((request) => request.records);
      for (const [name, part] of parts) {
        const value = recordPart(selections, part, all.length);
        const wanted = all.map((one) => one[name] ?? empty);
        if (value === null) {
          expect([name, Buffer.concat(wanted).length]).not.toEqual(['value', 0]);
          expect(Buffer.concat(wanted)).toEqual(empty);
          continue;
        }
        if (all.length === 0) continue;
        // The array begins behind other bytes, as in a read.
        const buffer = Buffer.concat([Buffer.alloc(before, 0xaa), written(value), Buffer.alloc(7, 0xaa)]);
        const bounds = new Int32Array(all.length * boundsPerRecord).fill(-1);
        decodePart(buffer, before, part, all.length, bounds);
        expect(sliced({ count: all.length, buffer, bounds }, part)).toEqual(wanted);
        expect(
          bounds.filter((_, at) => Math.floor((at % boundsPerRecord) / 2) !== part).every((bound) => bound === -1),
        ).toBe(true);
      }
    }),
    property(500),
  );
});

function sliced({ count, buffer, bounds }: RecordSet, part: RecordPart): Buffer[] {
  return Array.from({ length: count }, (_, index) => {
    const at = index * boundsPerRecord + part * 2;
    return buffer.subarray(bounds[at], bounds[at + 1]);
  });
}

test('PostgreSQL reads the same elements, and writes the form that the broker reads', async () => {
  const database = await createTestDatabase();
  const client = new Client({ connectionString: database.url });
  await client.connect();
  await fc.assert(
    fc.asyncProperty(fc.array(bytes, { maxLength: 8 }), async (elements) => {
      const { rows } = await client.query<{ hex: string[]; sent: Buffer }>(
        `SELECT coalesce(array_agg(encode(element, 'hex') ORDER BY index), '{}') AS hex, array_send($1::bytea[]) AS sent
           FROM unnest($1::bytea[]) WITH ORDINALITY AS u (element, index)`,
        [encoded(...elements)],
      );
      expect(rows[0]!.hex).toEqual(elements.map((element) => element.toString('hex')));
      expect(rows[0]!.sent).toEqual(encoded(...elements));
      expect(rows[0]!.sent).toEqual(
        written(recordPart([selection(elements.map((value) => ({ value })))], recordParts.values, elements.length)!),
      );
    }),
    property(100),
  );
  await client.end();
  await database.drop();
});

test('an array of another shape is an error, and is never read as other records', () => {
  const array = encoded(Buffer.from('a'), Buffer.from('b'));
  const decode = (buffer: Buffer, count: number) => {
    decodePart(buffer, 0, recordParts.keys, count, new Int32Array(count * boundsPerRecord));
  };
  expect(() => {
    decode(array, 3);
  }).toThrow('another shape');
  expect(() => {
    decode(encoded(), 1);
  }).toThrow('another shape');
  const withNull = Buffer.from(array);
  withNull.writeInt32BE(-1, 20);
  expect(() => {
    decode(withNull, 2);
  }).toThrow('null');
});
