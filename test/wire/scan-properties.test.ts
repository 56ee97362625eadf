import { fromBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  AckMode,
  PublishRequestSchema,
  PublishStreamRequestSchema,
  type PublishRequest,
} from '../../gen/millrace/v1/broker_pb.js';
import type { PublishCommand } from '../../src/broker/commands.ts';
import { Rejection } from '../../src/errors/rejections/rejection.ts';
import { limits } from '../../src/limits/limits.ts';
import { scanPublish } from '../../src/wire/scan-publish.ts';
import { property } from '../coordinator/property.ts';
import { content, deliver, encodeRequest, ordinaryRequest } from './delivery.ts';
import { looseRequest } from './loose-encoding.ts';
import { mutated, type Mutation, mutations } from './mutation.ts';

/** The scan and protobuf-es must see the same in the same bytes. */
function expectSame(command: PublishCommand, decoded: PublishRequest): void {
  expect(command.topic).toBe(decoded.topic);
  expect(command.partition).toBe(decoded.partition ?? null);
  expect(command.expectedOffset).toBe(decoded.expectedOffset === undefined ? null : Number(decoded.expectedOffset));
  expect(command.lane).toBe(decoded.lane ?? null);
  expect(command.committed).toBe(decoded.ackMode !== AckMode.NONE);
  const keys = decoded.records.map((record) => record.idempotencyKey || null);
  expect(command.idempotencyKeys).toEqual(keys.every((key) => key === null) ? null : keys);
  const delivered = deliver(command);
  expect(delivered.map(content)).toEqual(decoded.records.map(content));
  for (const record of delivered) expect(record.$unknown).toBeUndefined();
}

function scan(request: Buffer): PublishCommand | Rejection {
  try {
    return scanPublish(request, limits);
  } catch (error) {
    if (error instanceof Rejection) return error;
    throw error;
  }
}

test('what an ordinary client publishes is what a consumer decodes', () => {
  fc.assert(
    fc.property(ordinaryRequest, (request) => {
      expectSame(scanPublish(encodeRequest(request), limits), request);
    }),
    property(2_000),
  );
});

test('an ordinary request costs no copy of its records', () => {
  fc.assert(
    fc.property(ordinaryRequest, (request) => {
      const encoded = encodeRequest(request);
      expect(scanPublish(encoded, limits).records.buffer).toBe(encoded);
    }),
    property(300),
  );
});

test('valid protobuf in an unusual form is accepted, and means the same to a consumer', () => {
  fc.assert(
    fc.property(looseRequest, (encoded) => {
      expectSame(scanPublish(encoded, limits), fromBinary(PublishRequestSchema, encoded));
    }),
    property(3_000),
  );
});

test('what protobuf-es cannot decode is refused, and what passes is decoded alike', () => {
  const seen = { accepted: 0, refused: 0 };
  const original = fc.oneof(ordinaryRequest.map(encodeRequest), looseRequest);
  fc.assert(
    fc.property(original, fc.array(mutations, { minLength: 1, maxLength: 2 }), (encoded, steps: Mutation[]) => {
      const request = steps.reduce(mutated, encoded);
      const outcome = scan(request);
      if (outcome instanceof Rejection) {
        seen.refused += 1;
        expect(['INVALID_FIELD', 'MALFORMED_REQUEST']).toContain(outcome.reason);
      } else {
        seen.accepted += 1;
        expectSame(outcome, fromBinary(PublishRequestSchema, request));
      }
    }),
    property(15_000),
  );
  // Both sides must really have been tried.
  expect(seen.accepted).toBeGreaterThan(1_000);
  expect(seen.refused).toBeGreaterThan(1_000);
});

test('a request cut off anywhere inside a record is refused', () => {
  const encoded = encodeRequest(fc.sample(ordinaryRequest, { seed: 3, numRuns: 1 })[0]!);
  for (let end = 0; end < encoded.length; end += 1) {
    const outcome = scan(encoded.subarray(0, end));
    if (outcome instanceof Rejection) continue;
    expectSame(outcome, fromBinary(PublishRequestSchema, encoded.subarray(0, end)));
  }
});

test('both publish requests have the same fields, so that one scan reads both', () => {
  const shape = (schema: typeof PublishRequestSchema | typeof PublishStreamRequestSchema) =>
    schema.fields.map(({ name, number, fieldKind }) => ({ name, number, fieldKind }));
  expect(shape(PublishStreamRequestSchema)).toEqual(shape(PublishRequestSchema));
});
