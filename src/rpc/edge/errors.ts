import { create, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from '../../../gen/google/rpc/error_details_pb.js';
import { Fault, type FaultKind } from '../../errors/fault.ts';
import { Rejection, type FieldViolation, type RejectionReason } from '../../errors/rejection.ts';
import { limits } from '../../limits/limits.ts';

/** The gRPC status codes in use. Connect has the same numbers. */
export const codes = {
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  INTERNAL: 13,
  UNAVAILABLE: 14,
} as const;

export type ErrorKind = RejectionReason | FaultKind | 'BUG';

interface ErrorRow {
  readonly code: keyof typeof codes;
  /** The reason in ErrorInfo, where it is not the kind itself. */
  readonly reason?: string;
  /** What the caller reads instead of the error's own message, which may tell of the inside. */
  readonly text?: string;
  /** RetryInfo: repeating the call makes sense after this long. */
  readonly retryAfterMs?: number;
  /** QuotaFailure: what is used up. */
  readonly quota?: string;
  /** PreconditionFailure: what the caller believed. */
  readonly precondition?: string;
}

/** What each kind of error is on the wire. The type makes a missing row a compile error; docs/errors.md explains them. */
export const errorTable: Readonly<Record<ErrorKind, ErrorRow>> = {
  INVALID_FIELD: { code: 'INVALID_ARGUMENT' },
  MALFORMED_REQUEST: { code: 'INVALID_ARGUMENT' },
  REQUEST_TOO_LARGE: { code: 'INVALID_ARGUMENT' },
  PARTITION_OUT_OF_RANGE: { code: 'INVALID_ARGUMENT' },
  LANE_REQUIRED: { code: 'INVALID_ARGUMENT' },
  OFFSET_OUT_OF_RANGE: { code: 'OUT_OF_RANGE' },
  ASSIGNOR_UNKNOWN: { code: 'INVALID_ARGUMENT' },
  TOPIC_NOT_FOUND: { code: 'NOT_FOUND' },
  GROUP_NOT_FOUND: { code: 'NOT_FOUND' },
  SUBSCRIPTION_NOT_FOUND: { code: 'NOT_FOUND' },
  TOPIC_EXISTS: { code: 'ALREADY_EXISTS' },
  SUBSCRIPTION_EXISTS: { code: 'ALREADY_EXISTS' },
  EXPECTED_OFFSET_MISMATCH: { code: 'FAILED_PRECONDITION', precondition: 'expected_offset' },
  PARTITIONS_CANNOT_SHRINK: { code: 'FAILED_PRECONDITION', precondition: 'partitions' },
  PUBLISH_QUEUE_FULL: { code: 'RESOURCE_EXHAUSTED', quota: 'publish queue', retryAfterMs: 100 },
  GROUP_NOT_EMPTY: { code: 'FAILED_PRECONDITION', precondition: 'group_without_members' },
  BROKER_FULL: { code: 'RESOURCE_EXHAUSTED', quota: 'memory of the broker', retryAfterMs: 10_000 },
  GROUP_MEMBERS_MAX: { code: 'RESOURCE_EXHAUSTED', quota: 'members of a group' },
  GROUP_TOPICS_MAX: { code: 'RESOURCE_EXHAUSTED', quota: 'topics of a group' },
  GROUP_DELETED: { code: 'ABORTED', retryAfterMs: 100 },
  MEMBER_FENCED: { code: 'ABORTED' },
  INSTANCE_FENCED: { code: 'ABORTED' },
  INSTANCE_ID_IN_USE: { code: 'ALREADY_EXISTS' },
  INCONSISTENT_PROTOCOLS: { code: 'FAILED_PRECONDITION', precondition: 'client_assignors' },
  ASSIGNOR_FAILED: { code: 'FAILED_PRECONDITION', precondition: 'assignor' },
  NOT_LEADER: { code: 'PERMISSION_DENIED' },
  PLAN_STALE: { code: 'ABORTED' },
  REPLACED: { code: 'ABORTED' },
  SYNC_TIMEOUT: { code: 'DEADLINE_EXCEEDED' },
  DRAINING: { code: 'UNAVAILABLE', retryAfterMs: 500 },
  NOT_OWNER: { code: 'UNAVAILABLE', retryAfterMs: 1_000 },
  DATABASE_UNAVAILABLE: {
    code: 'UNAVAILABLE',
    text: 'the database is not available; nothing has changed',
    retryAfterMs: 1_000,
  },
  OUTCOME_UNKNOWN: {
    code: 'UNAVAILABLE',
    text: 'the connection to the database broke while committing; the change may or may not have happened',
    retryAfterMs: 1_000,
  },
  FENCED: {
    code: 'UNAVAILABLE',
    reason: 'NOT_OWNER',
    text: 'another broker has taken over; nothing has changed',
    retryAfterMs: 1_000,
  },
  DATA_REFUSED: { code: 'INVALID_ARGUMENT', text: 'the database refuses this data; nothing has changed' },
  BUG: { code: 'INTERNAL' },
};

/** An error as both edges send it. */
export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly details: readonly ErrorDetail[];
}

export interface ErrorDetail {
  readonly desc: DescMessage;
  readonly value: MessageShape<DescMessage>;
}

/** Logs a bug. @returns the id under which it stands in the log. */
export type ReportBug = (error: unknown) => string;

/** The one conversion of whatever a call threw into what its client gets. */
export function rpcErrorOf(error: unknown, reportBug: ReportBug): RpcError {
  if (error instanceof Rejection) return rejected(error);
  if (error instanceof Fault) return described(error.kind, error.message, {}, []);
  const bugId = reportBug(error);
  return described('BUG', `internal error ${bugId}; the broker's log has its cause under this id`, { bugId }, []);
}

function rejected(rejection: Rejection): RpcError {
  return described(rejection.reason, rejection.message, rejection.metadata, rejection.violations);
}

function described(
  kind: ErrorKind,
  ownMessage: string,
  metadata: Readonly<Record<string, string>>,
  violations: readonly FieldViolation[],
): RpcError {
  const row = errorTable[kind];
  const message = short(row.text ?? ownMessage);
  const details = [
    detail(ErrorInfoSchema, create(ErrorInfoSchema, { reason: row.reason ?? kind, domain: 'millrace', metadata })),
    ...violationDetails(violations),
    ...rowDetails(row, message, metadata),
  ];
  return { code: codes[row.code], message, details };
}

function violationDetails(violations: readonly FieldViolation[]): ErrorDetail[] {
  if (violations.length === 0) return [];
  const fieldViolations = violations
    .slice(0, limits.errorViolationsMax)
    .map(({ field, description }) => ({ field: short(field), description: short(description) }));
  return [detail(BadRequestSchema, create(BadRequestSchema, { fieldViolations }))];
}

function rowDetails(row: ErrorRow, message: string, metadata: Readonly<Record<string, string>>): ErrorDetail[] {
  const details: ErrorDetail[] = [];
  if (row.precondition !== undefined) {
    const violation = {
      type: row.precondition,
      subject: metadata['topic'] ?? metadata['group'] ?? '',
      description: message,
    };
    details.push(detail(PreconditionFailureSchema, create(PreconditionFailureSchema, { violations: [violation] })));
  }
  if (row.quota !== undefined) {
    const violation = { subject: row.quota, description: message };
    details.push(detail(QuotaFailureSchema, create(QuotaFailureSchema, { violations: [violation] })));
  }
  if (row.retryAfterMs !== undefined) {
    details.push(detail(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(row.retryAfterMs) })));
  }
  return details;
}

function detail<D extends DescMessage>(desc: D, value: MessageShape<D>): ErrorDetail {
  return { desc, value };
}

/** Texts may quote a request. A lone surrogate among them would throw when grpc-js encodes the message. */
function short(text: string): string {
  const max = limits.errorTextCharsMax;
  return (text.length <= max ? text : `${text.slice(0, max)}…`).toWellFormed();
}
