import { create, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from '../../../gen/google/rpc/error_details_pb.js';
import { Fault } from '../../errors/fault.ts';
import { Rejection, type FieldViolation } from '../../errors/rejections/rejection.ts';
import { printable } from '../../errors/printable.ts';
import { limits } from '../../limits/limits.ts';
import { codes, type ErrorKind, type ErrorRow } from './error-row.ts';
import { errorTable } from './error-table.ts';

/** An error as both edges send it. */
export interface RpcError {
  readonly code: number;
  /** The reason in ErrorInfo, which both edges also send as plain text. */
  readonly reason: string;
  readonly message: string;
  readonly details: readonly ErrorDetail[];
}

interface ErrorDetail {
  readonly desc: DescMessage;
  readonly value: MessageShape<DescMessage>;
}

/**
 * The trailer, or the header of a unary call over HTTP, that has the reason of an error in ASCII.
 * Some libraries do not decode the details of an error, but all of them read a trailer.
 */
export const reasonTrailer = 'millrace-reason';

/** Where the errors of calls are noted. */
export interface ReportBug {
  /** Logs a bug. @returns the id under which it stands in the log. */
  (error: unknown): string;
  /** Counts an error that a client gets. */
  readonly refused?: (reason: string) => void;
}

/** The one conversion of whatever a call threw into what its client gets. */
export function rpcErrorOf(error: unknown, reportBug: ReportBug): RpcError {
  const answer = convert(error, reportBug);
  reportBug.refused?.(answer.reason);
  return answer;
}

function convert(error: unknown, reportBug: ReportBug): RpcError {
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
  const reason = row.reason ?? kind;
  const details = [
    detail(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: 'millrace', metadata })),
    ...violationDetails(violations),
    ...rowDetails(row, message, metadata),
  ];
  return { code: codes[row.code], reason, message, details };
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

/** Texts may quote a request. A lone surrogate among them would throw when grpc-js encodes it. */
function short(text: string): string {
  const max = limits.errorTextCharsMax;
  return printable(text.length <= max ? text : `${text.slice(0, max)}…`).toWellFormed();
}
