import { create, isMessage, toBinary, type DescMessage, type Message } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AckRequestSchema, HeartbeatRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { JoinGroupRequestSchema, SyncGroupRequestSchema } from '../../../gen/millrace/v1/group_pb.js';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import { decodeBinary } from '../../../src/rpc/translation/decode.ts';
import { countEntries } from '../../../src/rpc/translation/entry-count.ts';
import { property } from '../../coordinator/property.ts';
import { mutated, mutations } from '../../wire/mutation.ts';
import { binaryWithEntries, binaryWithParents, listFields } from '../text/list-fields.ts';

function reasonOf(desc: DescMessage, bytes: Buffer): string {
  try {
    decodeBinary(desc, bytes);
    return 'decoded';
  } catch (error) {
    if (error instanceof Rejection) return `${error.reason}: ${error.message}`;
    throw error;
  }
}

const tooMany = /^INVALID_FIELD: \w+: has more than \d+ entries in all of the request$/;

describe('a list of a request is refused by its bytes, before an object for each entry ends the broker', () => {
  const fields = listFields();

  test('there are lists in requests', () => {
    expect(fields.length).toBeGreaterThan(15);
  });

  test.each(fields)('two million entries: $name', (list) => {
    expect(reasonOf(list.method.input, binaryWithEntries(list, 2_000_000))).toMatch(/INVALID_FIELD|TOO_LARGE/);
    expect(reasonOf(list.method.input, binaryWithEntries(list, limits.planEntriesMax + 1))).toMatch(tooMany);
  });

  test.each(fields)('spread over parents that have one entry each: $name', (list) => {
    const bytes = binaryWithParents(list, limits.planEntriesMax + 1);
    if (bytes !== null) expect(reasonOf(list.method.input, bytes)).toMatch(tooMany);
  });
});

test('as many acked offsets, one by one, as the limit allows are not refused by their count', () => {
  const acks = Array.from({ length: limits.ackEntriesMax }, (_, at) => {
    return { topic: 'orders', partition: 0, offsets: [BigInt(at)] };
  });
  const bytes = Buffer.from(toBinary(AckRequestSchema, create(AckRequestSchema, { acks })));
  expect(countEntries(AckRequestSchema, bytes).entries).toBe(2 * limits.ackEntriesMax);
});

test('a plan of the most partitions is not refused by its count', () => {
  const partitions = Array.from({ length: limits.planPartitionsMax }, () => ({ topic: 'orders', partition: 1 }));
  const request = create(SyncGroupRequestSchema, { plan: { members: [{ memberId: 'm', partitions }] } });
  const bytes = Buffer.from(toBinary(SyncGroupRequestSchema, request));
  expect(countEntries(SyncGroupRequestSchema, bytes).entries).toBe(limits.planPartitionsMax + 1);
});

test('a field with a wrong wire type is refused, because the decoder would read the rest otherwise than the count', () => {
  // The group as a number: the decoder would take that number for the length of a text.
  expect(reasonOf(HeartbeatRequestSchema, Buffer.from([0x08, 0x02, 0x22, 0x00]))).toMatch(
    /MALFORMED_REQUEST.*wire type/,
  );
});

test('unknown fields of a request are not kept, so that 4 MB of them do not live as long as the request', () => {
  const join = toBinary(JoinGroupRequestSchema, create(JoinGroupRequestSchema, { group: 'billing' }));
  const message = decodeBinary(JoinGroupRequestSchema, Buffer.concat([join, Buffer.from([0xfa, 0x3f, 2, 1, 2])]));
  expect([message.group, message.$unknown]).toEqual(['billing', undefined]);
});

function entriesIn(message: Message): number {
  return Object.values(message).reduce<number>((sum, value) => sum + entriesOf(value), 0);
}

function entriesOf(value: unknown): number {
  if (Array.isArray(value)) return value.reduce<number>((sum, entry) => sum + entriesOf(entry), value.length);
  if (isMessage(value)) return entriesIn(value);
  const chosen = value as { readonly case?: string; readonly value?: unknown } | null;
  return typeof chosen === 'object' && chosen?.case !== undefined ? entriesOf(chosen.value) : 0;
}

const offset = fc.bigInt(0n, 2n ** 53n - 1n);
const acks = fc
  .array(
    fc.record({
      topic: fc.constantFrom('', 'orders'),
      partition: fc.nat(),
      offsets: fc.array(offset, { maxLength: 5 }),
      ranges: fc.array(fc.record({ first: offset, last: offset }), { maxLength: 5 }),
    }),
    { maxLength: 6 },
  )
  .map((entries) => Buffer.from(toBinary(AckRequestSchema, create(AckRequestSchema, { group: 'g', acks: entries }))));

test('the count of the bytes is that of the decoded request', () => {
  const counted = fc.property(acks, (bytes) => {
    expect(countEntries(AckRequestSchema, bytes).entries).toBe(entriesIn(decodeBinary(AckRequestSchema, bytes)));
  });
  fc.assert(counted, property(300));
});

test('no damaged bytes decode to more entries than were counted', () => {
  const counted = fc.property(acks, mutations, (bytes, mutation) => {
    const changed = mutated(bytes, mutation);
    if (reasonOf(AckRequestSchema, changed) !== 'decoded') return;
    const decoded = entriesIn(decodeBinary(AckRequestSchema, changed));
    expect(decoded).toBeLessThanOrEqual(countEntries(AckRequestSchema, changed).entries);
  });
  fc.assert(counted, property(2_000));
});
