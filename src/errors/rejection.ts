/**
 * A rejection is an expected refusal of a call: the caller did something that cannot be, or must wait. The union is
 * closed; `src/rpc/edge/errors.ts` maps every reason to a gRPC code and its details, and a missing row does not compile.
 */
export type RejectionReason =
  | 'INVALID_FIELD'
  | 'MALFORMED_REQUEST'
  | 'REQUEST_TOO_LARGE'
  | 'PARTITION_OUT_OF_RANGE'
  | 'LANE_REQUIRED'
  | 'OFFSET_OUT_OF_RANGE'
  | 'ASSIGNOR_UNKNOWN'
  | 'TOPIC_NOT_FOUND'
  | 'GROUP_NOT_FOUND'
  | 'SUBSCRIPTION_NOT_FOUND'
  | 'TOPIC_EXISTS'
  | 'SUBSCRIPTION_EXISTS'
  | 'EXPECTED_OFFSET_MISMATCH'
  | 'PARTITIONS_CANNOT_SHRINK'
  | 'PUBLISH_QUEUE_FULL'
  | 'BROKER_FULL'
  | 'GROUP_MEMBERS_MAX'
  | 'GROUP_TOPICS_MAX'
  | 'GROUP_DELETED'
  | 'GROUP_NOT_EMPTY'
  | 'MEMBER_FENCED'
  | 'INSTANCE_FENCED'
  | 'INSTANCE_ID_IN_USE'
  | 'INCONSISTENT_PROTOCOLS'
  | 'ASSIGNOR_FAILED'
  | 'NOT_LEADER'
  | 'PLAN_STALE'
  | 'REPLACED'
  | 'SYNC_TIMEOUT'
  | 'DRAINING'
  | 'NOT_OWNER';

/** One wrong field of a request. `field` is its path in the proto's names, e.g. `records[3].key`. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

export class Rejection extends Error {
  override readonly name = 'Rejection';
  readonly reason: RejectionReason;
  /** Facts for the program that reads the error, e.g. `currentOffset`. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];

  constructor(
    reason: RejectionReason,
    message: string,
    details: { metadata?: Record<string, string>; violations?: readonly FieldViolation[] } = {},
  ) {
    super(message);
    this.reason = reason;
    this.metadata = details.metadata ?? {};
    this.violations = details.violations ?? [];
  }
}

export function invalidField(field: string, description: string): Rejection {
  return new Rejection('INVALID_FIELD', `${field}: ${description}`, { violations: [{ field, description }] });
}
