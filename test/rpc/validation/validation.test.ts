import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { AckRequestSchema, SubscribeRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { AddPartitionsRequestSchema, CreateTopicRequestSchema } from '../../../gen/millrace/v1/topic_pb.js';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import { microseconds, msOr } from '../../../src/rpc/validation/defaults.ts';
import { createValidation } from '../../../src/rpc/validation/validation.ts';
import { requestFields } from './proto-comments.ts';
import { violatingSamples } from './violating-samples.ts';

const validation = createValidation(limits);

/** The scan of a publish checks these, and its own tests hold it to their limits. */
const scanned = ['millrace.v1.PublishRequest', 'millrace.v1.PublishStreamRequest', 'millrace.v1.Record'];

function rejectionOf(run: () => void): Rejection {
  try {
    run();
  } catch (error) {
    if (error instanceof Rejection) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

test('a limit that the proto states and nobody enforces', () => {
  const limited = requestFields().filter(
    ({ field, comment }) => comment.includes('Limit:') && !scanned.includes(field.parent.typeName),
  );
  expect(limited.length).toBeGreaterThan(60);
  const unruled = limited
    .filter(({ field }) => !validation.ruled.get(field.parent.typeName)?.includes(field.localName))
    .map(({ field }) => `${field.parent.typeName}.${field.name}`);
  expect(unruled).toEqual([]);
});

test('a rule without a request that breaks it', () => {
  const unbroken = requestFields()
    .filter(({ field }) => validation.ruled.get(field.parent.typeName)?.includes(field.localName))
    .filter(({ field }) => !violatingSamples.some(({ path }) => path.split(/[.[]/).includes(field.name)))
    .map(({ field }) => `${field.parent.typeName}.${field.name}`);
  expect(unbroken).toEqual([]);
});

describe('a wrong field is refused by its path', () => {
  test.each(violatingSamples)('$call: $path', ({ call, request, path }) => {
    const { reason, violations } = rejectionOf(() => {
      validation[call](request);
    });
    expect(reason).toBe('INVALID_FIELD');
    expect(violations.map(({ field }) => field)).toContain(path);
  });
});

test('every wrong field is told at once, but no more than fit into the trailers of an error', () => {
  const two = create(SubscribeRequestSchema, { group: 'a b', topics: ['orders'], maxInFlightRecords: -1 });
  const { message, violations } = rejectionOf(() => {
    validation.subscribe(two);
  });
  expect(violations.map(({ field }) => field)).toEqual(['group', 'max_in_flight_records']);
  expect(message).toContain('group: ');

  const many = create(AckRequestSchema, { group: 'g', memberId: 'm', acks: Array.from({ length: 99 }, () => ({})) });
  const refused = rejectionOf(() => {
    validation.ack(many);
  });
  expect(refused.violations).toHaveLength(limits.errorViolationsMax);
});

test('a partition count that the operator has allowed is not refused', () => {
  const raised = createValidation({ partitionsMax: 100_000 });
  const request = create(CreateTopicRequestSchema, { topic: { name: 'wide', partitions: 100_000 } });
  expect(() => {
    raised.createTopic(request);
    raised.addPartitions(create(AddPartitionsRequestSchema, { name: 'wide', partitions: 100_000 }));
  }).not.toThrow();
});

test('a wait below a millisecond does not become no wait, nor does a far time overflow', () => {
  expect(msOr({ seconds: 0n, nanos: 1 } as never, null)).toBe(1);
  expect(msOr(undefined, null)).toBeNull();
  expect(microseconds({ seconds: 1n, nanos: 1_001 } as never)).toBe(1_000_002);
  expect(microseconds({ seconds: 253_402_300_799n, nanos: 0 } as never)).toBe(Number.MAX_SAFE_INTEGER);
});
