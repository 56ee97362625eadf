import { readFileSync } from 'node:fs';
import type { Duration } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { invalidField, Rejection } from '../../src/errors/rejection.ts';
import { limits } from '../../src/limits/limits.ts';
import { errorTable, rpcErrorOf, type ErrorKind } from '../../src/rpc/edge/errors.ts';
import { statusOf } from '../../src/rpc/grpc/status.ts';

const noBug = () => {
  throw new Error('it was taken for a bug');
};

function detailsOf(error: unknown): Record<string, unknown> {
  const { details } = rpcErrorOf(error, noBug);
  return Object.fromEntries(details.map(({ value }) => [value.$typeName.replace('google.rpc.', ''), value]));
}

test('an error that the docs do not explain, or explain with another code', () => {
  const docs = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
  const documented = [...docs.matchAll(/^\| `(\w+)` \| `(\w+)` \| ([\w, ]*)\|/gm)].map(([, reason, code, details]) => {
    return `${reason} ${code} ${details!.trim()}`.trim();
  });
  const served = Object.entries(errorTable).map(([kind, row]) => {
    const details = [
      ...(kind === 'INVALID_FIELD' ? ['BadRequest'] : []),
      ...(row.precondition === undefined ? [] : ['PreconditionFailure']),
      ...(row.quota === undefined ? [] : ['QuotaFailure']),
      ...(row.retryAfterMs === undefined ? [] : ['RetryInfo']),
    ];
    return `${row.reason ?? kind} ${row.code} ${details.join(', ')}`.trim();
  });
  expect(documented.sort()).toEqual([...new Set(served)].sort());
});

test('a rejection without its reason or its facts', () => {
  const rejection = new Rejection('EXPECTED_OFFSET_MISMATCH', 'the next offset is 7', {
    metadata: { currentOffset: '7' },
  });
  expect(rpcErrorOf(rejection, noBug)).toMatchObject({ code: 9, message: 'the next offset is 7' });
  expect(detailsOf(rejection)).toMatchObject({
    ErrorInfo: { reason: 'EXPECTED_OFFSET_MISMATCH', domain: 'millrace', metadata: { currentOffset: '7' } },
    PreconditionFailure: { violations: [{ type: 'expected_offset', description: 'the next offset is 7' }] },
  });
  expect(detailsOf(invalidField('acks[2].lane', 'must be 0'))).toMatchObject({
    ErrorInfo: { reason: 'INVALID_FIELD' },
    BadRequest: { fieldViolations: [{ field: 'acks[2].lane', description: 'must be 0' }] },
  });
});

test('backpressure that does not say when to come back', () => {
  const details = detailsOf(new Rejection('PUBLISH_QUEUE_FULL', 'full'));
  expect(details).toMatchObject({ QuotaFailure: { violations: [{ subject: 'publish queue', description: 'full' }] } });
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
  const violations = Array.from({ length: 1_000 }, (_, index) => ({
    field: `acks[${index}].topic${'x'.repeat(1_000)}`,
    description: 'ü'.repeat(1_000),
  }));
  const rejection = new Rejection('INVALID_FIELD', 'ü'.repeat(10_000), { violations });
  const { details, metadata } = statusOf(rejection, noBug);
  const [bytes] = metadata.get('grpc-status-details-bin');
  const trailers = encodeURI(details).length + Math.ceil((bytes as Buffer).length / 3) * 4;
  expect(trailers).toBeLessThan(8_192);
});

test('a lone surrogate in a quoted text, on which the encoding of a status throws', () => {
  const rejection = new Rejection(
    'TOPIC_NOT_FOUND',
    `there is no topic ${'x'.repeat(limits.errorTextCharsMax - 19)}😀`,
  );
  expect(() => encodeURI(rpcErrorOf(rejection, noBug).message)).not.toThrow();
  expect(() => encodeURI(rpcErrorOf(new Rejection('REPLACED', '\ud800'), noBug).message)).not.toThrow();
});

test('a kind of error without a row, or a row whose reason is no constant', () => {
  for (const kind of Object.keys(errorTable) as ErrorKind[]) expect(kind).toMatch(/^[A-Z][A-Z_]+$/);
});
