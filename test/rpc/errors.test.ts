import type { Duration } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { replaced } from '../../src/errors/rejections/members.ts';
import { expectedOffsetMismatch, publishQueueFull } from '../../src/errors/rejections/publishing.ts';
import { invalidField, invalidFields } from '../../src/errors/rejections/requests.ts';
import { topicNotFound } from '../../src/errors/rejections/topics.ts';
import { limits } from '../../src/limits/limits.ts';
import type { ErrorKind } from '../../src/rpc/edge/error-row.ts';
import { errorTable } from '../../src/rpc/edge/error-table.ts';
import { rpcErrorOf } from '../../src/rpc/edge/errors.ts';
import { statusOf } from '../../src/rpc/grpc/status.ts';

const noBug = () => {
  throw new Error('it was taken for a bug');
};

function detailsOf(error: unknown): Record<string, unknown> {
  const { details } = rpcErrorOf(error, noBug);
  return Object.fromEntries(details.map(({ value }) => [value.$typeName.replace('google.rpc.', ''), value]));
}

test('a rejection without its reason or its facts', () => {
  const rejection = expectedOffsetMismatch({ topic: 'orders', partition: 2, currentOffset: 7, expected: 5 });
  const message = 'the next offset of partition 2 of topic "orders" is 7, not 5';
  expect(rpcErrorOf(rejection, noBug)).toMatchObject({ code: 9, message });
  expect(detailsOf(rejection)).toMatchObject({
    ErrorInfo: {
      reason: 'EXPECTED_OFFSET_MISMATCH',
      domain: 'millrace',
      metadata: { topic: 'orders', partition: '2', currentOffset: '7' },
    },
    PreconditionFailure: { violations: [{ type: 'expected_offset', subject: 'orders', description: message }] },
  });
  expect(detailsOf(invalidField('acks[2].lane', 'must be 0'))).toMatchObject({
    ErrorInfo: { reason: 'INVALID_FIELD' },
    BadRequest: { fieldViolations: [{ field: 'acks[2].lane', description: 'must be 0' }] },
  });
});

test('backpressure that does not say when to come back', () => {
  const details = detailsOf(publishQueueFull({ publishQueueBytesMax: 7 }));
  const violation = { subject: 'publish queue', description: expect.stringContaining('more than 7 bytes') };
  expect(details).toMatchObject({ QuotaFailure: { violations: [violation] } });
  expect((details['RetryInfo'] as { retryDelay: Duration }).retryDelay.nanos).toBe(100_000_000);
});

test('a fault that tells the inside of the database to a caller', () => {
  const fault = new Fault('DATABASE_UNAVAILABLE', 'password authentication failed for user millrace at 10.0.0.7');
  const { code, message } = rpcErrorOf(fault, noBug);
  expect(code).toBe(14);
  expect(message).not.toContain('10.0.0.7');
  expect(detailsOf(new Fault('FENCED', ''))).toMatchObject({ ErrorInfo: { reason: 'NOT_OWNER' }, RetryInfo: {} });
});

test('a bug that tells its cause to the caller, or nobody', () => {
  const reported: unknown[] = [];
  const bug = new TypeError('undefined is not a function at secret.ts');
  const { code, message, details } = rpcErrorOf(bug, (error) => {
    reported.push(error);
    return 'id-7';
  });
  expect(code).toBe(13);
  expect(message).toContain('id-7');
  expect(message).not.toContain('secret');
  expect(details[0]?.value).toMatchObject({ reason: 'BUG', metadata: { bugId: 'id-7' } });
  expect(reported).toEqual([bug]);
});

test('an error that is too large for the trailers that clients take', () => {
  const violation = (index: number) => ({
    field: `acks[${index}].topic${'x'.repeat(1_000)}`,
    description: 'ü'.repeat(10_000),
  });
  const rejection = invalidFields([violation(0), ...Array.from({ length: 999 }, (_, index) => violation(index + 1))]);
  const { details, metadata } = statusOf(rejection, noBug);
  const [bytes] = metadata.get('grpc-status-details-bin');
  const trailers = encodeURI(details).length + Math.ceil((bytes as Buffer).length / 3) * 4;
  expect(trailers).toBeLessThan(8_192);
});

test('a lone surrogate in a quoted text, on which the encoding of a status throws', () => {
  const rejection = topicNotFound({ topic: `${'x'.repeat(limits.errorTextCharsMax - 20)}😀` });
  expect(() => encodeURI(rpcErrorOf(rejection, noBug).message)).not.toThrow();
  expect(() => encodeURI(rpcErrorOf(replaced('\ud800'), noBug).message)).not.toThrow();
});

test('a kind of error without a row, or a row whose reason is no constant', () => {
  for (const kind of Object.keys(errorTable) as ErrorKind[]) expect(kind).toMatch(/^[A-Z][A-Z_]+$/);
});
