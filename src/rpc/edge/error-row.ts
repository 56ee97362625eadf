import type { FaultKind } from '../../errors/fault.ts';
import type { RejectionReason } from '../../errors/rejections/rejection.ts';

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
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
} as const;

export type ErrorKind = RejectionReason | FaultKind | 'BUG';

export interface ErrorRow {
  readonly code: keyof typeof codes;
  /** The reason in ErrorInfo, where it is not the kind itself. */
  readonly reason?: ErrorKind;
  /** What the caller reads instead of the error's own message, which may tell of the inside. */
  readonly text?: string;
  /** BadRequest: the fields that are wrong. */
  readonly violations?: true;
  /** RetryInfo: repeating the call makes sense after this long. */
  readonly retryAfterMs?: number;
  /** QuotaFailure: what is used up. */
  readonly quota?: string;
  /** PreconditionFailure: what the caller believed. */
  readonly precondition?: string;
  /** For docs/errors.md; null where the row of `reason` explains it. */
  readonly happened: string | null;
  /** For docs/errors.md: what the caller should do. */
  readonly remedy: string | null;
}
