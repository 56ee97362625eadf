import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CommitOffsetsRequestSchema,
  CommitOffsetsResponseSchema,
  OffsetStatus,
  type CommitOffsetsRequest,
} from '../../gen/millrace/v1/offset_pb.js';
import { Rejection } from '../../src/errors/rejections/rejection.ts';
import { limits } from '../../src/limits/limits.ts';
import { decodeBinary } from '../../src/rpc/translation/decode.ts';
import { createValidation } from '../../src/rpc/validation/validation.ts';
import { encodeCommittedOffsets } from '../../src/wire/encode-committed-offsets.ts';
import { scanCommitOffsets } from '../../src/wire/scan-commit-offsets.ts';
import { property } from '../coordinator/property.ts';
import { mutated, mutations } from './mutation.ts';

type ScannedCommits = NonNullable<ReturnType<typeof scanCommitOffsets>>;
type CommittedOffset = Parameters<typeof encodeCommittedOffsets>[0][number];

const validation = createValidation(limits);

/** What the ordinary decoder and the ordinary rules make of the bytes; null: they refuse them. */
function ordinary(bytes: Buffer): ScannedCommits | null {
  try {
    const request = decodeBinary(CommitOffsetsRequestSchema, bytes);
    validation.commitOffsets(request);
    return contentOf(request);
  } catch (error) {
    if (error instanceof Rejection) return null;
    throw error;
  }
}

function contentOf({ group, memberId, generation, offsets }: CommitOffsetsRequest): ScannedCommits {
  return {
    group,
    memberId,
    generation: generation === undefined ? null : Number(generation),
    offsets: offsets.map(({ topic, partition, lane, offset, metadata }) => {
      return { topic, partition: partition!, lane: lane ?? null, offset: Number(offset), metadata };
    }),
  };
}

/** It may leave anything to the ordinary decoder, but must not make anything else of it. */
function expectNothingElse(bytes: Buffer): void {
  const scanned = scanCommitOffsets(bytes);
  if (scanned !== null) expect(scanned).toEqual(ordinary(bytes));
}

const edges = [0n, 1n, 127n, 128n, 2n ** 28n, 2n ** 32n - 1n, 2n ** 49n, 2n ** 53n - 1n];
const offset = fc.oneof(fc.constantFrom(...edges), fc.bigInt(0n, 2n ** 53n - 1n));
const topic = fc.oneof(fc.constantFrom('orders', 'a', 'x'.repeat(200)), fc.stringMatching(/^[A-Za-z0-9._-]{1,30}$/));
const partition = fc.oneof(fc.constantFrom(0, 127, 128, 16_384, 2 ** 31 - 1), fc.nat(100_000));
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const ascii = fc.string({ unit: fc.integer({ min: 1, max: 127 }).map((code) => String.fromCharCode(code)) });

/** What clients send: all of it is good. */
const good = fc
  .record({
    group: topic,
    member: fc.option(fc.record({ memberId: ascii.filter((id) => id !== ''), generation: offset })),
    offsets: fc.array(
      fc.record({
        topic,
        partition,
        lane: optional(fc.nat(300)),
        offset,
        metadata: fc.oneof(fc.constant(''), ascii, fc.constant('n'.repeat(limits.offsetMetadataBytesMax))),
      }),
      { minLength: 1, maxLength: 6 },
    ),
  })
  .map(({ member, ...rest }) => create(CommitOffsetsRequestSchema, { ...rest, ...member }));

const int64 = fc.oneof(fc.bigInt(2n ** 53n, 2n ** 56n), fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n));
const anyText = fc.string({ unit: 'binary', maxLength: 5 });
type Defect = (request: CommitOffsetsRequest, entry: CommitOffsetsRequest['offsets'][number]) => void;

/** One thing each that a client may get wrong, or that is right and rare. */
const defect: fc.Arbitrary<Defect> = fc.oneof(
  anyText.map(
    (text): Defect =>
      (request) =>
        void (request.group = text),
  ),
  anyText.map(
    (text): Defect =>
      (_, entry) =>
        void (entry.topic = text),
  ),
  anyText.map(
    (text): Defect =>
      (_, entry) =>
        void (entry.metadata = text),
  ),
  anyText.map(
    (text): Defect =>
      (request) =>
        void (request.memberId = text),
  ),
  fc.constantFrom('m\0', 'm'.repeat(261)).map(
    (text): Defect =>
      (request) =>
        void (request.memberId = text),
  ),
  fc.constant((request: CommitOffsetsRequest) => void delete request.generation),
  int64.map(
    (value): Defect =>
      (request) =>
        void (request.generation = value),
  ),
  int64.map(
    (value): Defect =>
      (_, entry) =>
        void (entry.offset = value),
  ),
  fc.integer().map(
    (value): Defect =>
      (_, entry) =>
        void (entry.partition = value),
  ),
  fc.constantFrom(2 ** 31 - 1, -1).map(
    (value): Defect =>
      (_, entry) =>
        void (entry.lane = value),
  ),
  fc.constant((_: unknown, entry: CommitOffsetsRequest['offsets'][number]) => void delete entry.offset),
  fc.constant((_: unknown, entry: CommitOffsetsRequest['offsets'][number]) => void delete entry.partition),
  fc.constant(
    (_: unknown, entry: CommitOffsetsRequest['offsets'][number]) => void (entry.metadata = 'n'.repeat(4_097)),
  ),
  fc.constant((request: CommitOffsetsRequest) => void (request.offsets = [])),
);

const odd = fc.tuple(good, defect, fc.nat()).map(([request, spoil, at]) => {
  spoil(request, request.offsets[at % request.offsets.length]!);
  return request;
});

const encoded = (request: CommitOffsetsRequest): Buffer => Buffer.from(toBinary(CommitOffsetsRequestSchema, request));

/** A number with so many bytes more than it needs. */
function varint(value: bigint, padding: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; rest > 0n || bytes.length === 0; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  for (let more = 0; more < padding && bytes.length < 10; more++) bytes.push(0x80);
  bytes[bytes.length - 1]! &= 0x7f;
  return bytes;
}

describe('the scan of a CommitOffsets request', () => {
  test('takes what clients send, and for what protobuf-es takes it', () => {
    fc.assert(
      fc.property(good, (request) => {
        expect(scanCommitOffsets(encoded(request))).toEqual(contentOf(request));
      }),
      property(2_000),
    );
  });

  test('makes nothing else of a request with something wrong in it than protobuf-es and the rules do', () => {
    fc.assert(
      fc.property(odd, (request) => {
        expectNothingElse(encoded(request));
      }),
      property(3_000),
    );
  });

  test('makes nothing else of damaged bytes than protobuf-es and the rules do', () => {
    fc.assert(
      fc.property(fc.oneof(good, odd), fc.array(mutations, { minLength: 1, maxLength: 4 }), (request, damage) => {
        expectNothingElse(damage.reduce(mutated, encoded(request)));
      }),
      property(10_000),
    );
  });

  test('makes nothing else of a request in two parts, with fields that come twice', () => {
    fc.assert(
      fc.property(good, good, (first, second) => {
        expectNothingElse(Buffer.concat([encoded(first), encoded(second)]));
      }),
      property(1_000),
    );
  });

  test('makes nothing else of numbers of any size and length', () => {
    const field = fc.tuple(fc.constantFrom(0x10, 0x18, 0x20), fc.bigInt(0n, 2n ** 64n - 1n), fc.nat(64), fc.nat(3));
    fc.assert(
      fc.property(good, fc.array(field, { maxLength: 3 }), (request, fields) => {
        const numbers = fields.map(([tag, value, shift, padding]) => [tag, ...varint(value >> BigInt(shift), padding)]);
        const entry = Buffer.from([0x0a, 1, 0x61, 0x20, 5, ...numbers.flat()]);
        expectNothingElse(Buffer.concat([encoded(request), Buffer.from([0x22, entry.length]), entry]));
      }),
      property(3_000),
    );
  });

  test('makes nothing else of any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        expectNothingElse(Buffer.from(bytes));
      }),
      property(3_000),
    );
  });

  test('leaves an entry that forgets its partition to the rules, and does not commit partition 0', () => {
    const forgotten = { topic: 'orders', offset: 1n };
    const offsets = [{ ...forgotten, partition: 0 }, forgotten];
    const request = encoded(create(CommitOffsetsRequestSchema, { group: 'billing', offsets }));
    expect(scanCommitOffsets(request)).toBeNull();
    expect(ordinary(request)).toBeNull();
  });

  test('leaves more entries than a call may have to the rules, which say so', () => {
    const offsets = Array.from({ length: limits.commitOffsetsMax + 1 }, () => ({
      topic: 'orders',
      partition: 0,
      offset: 1n,
    }));
    const request = create(CommitOffsetsRequestSchema, { group: 'billing', offsets });
    expect(scanCommitOffsets(encoded(request))).toBeNull();
    request.offsets.pop();
    expect(scanCommitOffsets(encoded(request))?.offsets).toHaveLength(limits.commitOffsetsMax);
  });
});

const statuses = [
  'OK',
  'NOT_ADVANCED',
  'STALE_GENERATION',
  'NOT_OWNER',
  'UNKNOWN_OFFSET',
  'UNKNOWN_PARTITION',
  'LANE_REQUIRED',
] as const;
const result: fc.Arbitrary<CommittedOffset> = fc.record({
  topic: fc.oneof(topic, fc.string({ unit: 'binary', maxLength: 70 })),
  partition: fc.oneof(partition, fc.nat(2 ** 31 - 1)),
  lane: fc.nat(300),
  status: fc.constantFrom(...statuses),
  committedOffset: fc.option(offset.map(Number)),
});
/** Runs of one topic, as calls have them. */
const results = fc
  .array(fc.tuple(fc.array(result, { minLength: 1, maxLength: 4 }), fc.boolean()), { maxLength: 5 })
  .map((runs) => runs.flatMap(([run, same]) => (same ? run.map((one) => ({ ...one, topic: run[0]!.topic })) : run)));

test('a CommitOffsets response is encoded as protobuf-es would', () => {
  fc.assert(
    fc.property(results, (all) => {
      const message = create(CommitOffsetsResponseSchema, {
        results: all.map(({ status, committedOffset, ...place }) => ({
          ...place,
          status: OffsetStatus[status],
          ...(committedOffset !== null && { committedOffset: BigInt(committedOffset) }),
        })),
      });
      expect(encodeCommittedOffsets(all)).toEqual(Buffer.from(toBinary(CommitOffsetsResponseSchema, message)));
    }),
    property(2_000),
  );
});

test('a CommitOffsets of half a million offsets is given up at the limit, before an object for each fills the heap', () => {
  const entry = Buffer.from([0x22, 7, 0x0a, 1, 0x61, 0x10, 0, 0x20, 0]);
  const request = Buffer.concat([Buffer.from([0x0a, 1, 0x67]), Buffer.alloc(entry.length * 450_000, entry)]);
  const before = process.memoryUsage().heapUsed;
  expect(scanCommitOffsets(request)).toBeNull();
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(10_000_000);
});
