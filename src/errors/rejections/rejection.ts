/**
 * A rejection is an expected refusal of a call, which cannot be done, or not yet. The union is
 * closed. Each reason has its fields here, and one constructor in this folder, which alone writes
 * its message. Its gRPC code and its explanation are a row of `src/rpc/edge/error-table.ts`; a
 * missing row does not compile.
 */
export const rejectionFields = {
  INVALID_FIELD: {},
  MALFORMED_REQUEST: {},
  REQUEST_TOO_LARGE: { bytesMax: 'number' },
  UNIMPLEMENTED_METHOD: {},
  SERVICE_NOT_FOUND: {},
  COMPRESSION_REFUSED: {},
  DEADLINE_EXCEEDED: {},
  PARTITION_OUT_OF_RANGE: { topic: 'text', partitions: 'number?', lanes: 'number?' },
  LANE_REQUIRED: { topic: 'text', lanes: 'number' },
  OFFSET_OUT_OF_RANGE: { topic: 'text', partition: 'number', logStartOffset: 'number', highWatermark: 'number' },
  RECORD_TOO_LARGE_IN_JSON: { topic: 'text', partition: 'number', offset: 'number' },
  ASSIGNOR_UNKNOWN: { assignorName: 'text', known: 'text' },
  TOPIC_NOT_FOUND: { topic: 'text?' },
  GROUP_NOT_FOUND: { group: 'text' },
  SUBSCRIPTION_NOT_FOUND: { group: 'text', topic: 'text' },
  SUBSCRIPTION_STATE: { group: 'text', topic: 'text', state: 'text' },
  SUBSCRIPTION_CANCELLED: { group: 'text', topic: 'text' },
  TOPIC_EXISTS: { topic: 'text' },
  SUBSCRIPTION_EXISTS: { group: 'text', topic: 'text' },
  NO_SUBSCRIPTIONS: { topic: 'text' },
  EXPECTED_OFFSET_MISMATCH: { topic: 'text', partition: 'number', currentOffset: 'number' },
  PARTITIONS_CANNOT_SHRINK: { topic: 'text', partitions: 'number' },
  PUBLISH_QUEUE_FULL: { publishQueueBytesMax: 'number' },
  BROKER_FULL: { kind: 'text?', bytesMax: 'number?' },
  BROKER_BUSY: { kind: 'text', bytesMax: 'number' },
  CONNECTION_BUSY: { kind: 'text', bytesMax: 'number' },
  GROUP_MEMBERS_MAX: { group: 'text', groupMembersMax: 'number' },
  GROUP_TOPICS_MAX: { group: 'text', groupTopicsMax: 'number' },
  GROUP_TASK_TOO_LARGE: {},
  MEMBER_PULLS_MAX: { memberId: 'text', memberPullsMax: 'number' },
  GROUP_DELETED: {},
  GROUP_NOT_EMPTY: { group: 'text?', members: 'number?' },
  MEMBER_FENCED: { memberId: 'text' },
  INSTANCE_FENCED: { memberId: 'text' },
  INSTANCE_ID_IN_USE: {},
  INCONSISTENT_PROTOCOLS: {},
  ASSIGNOR_FAILED: {},
  NOT_LEADER: {},
  PLAN_STALE: {},
  PAGE_STALE: {},
  REPLACED: {},
  SLOW_READER: { slowReaderMs: 'number' },
  SYNC_TIMEOUT: { generation: 'number' },
  DRAINING: {},
  NOT_OWNER: {},
} as const satisfies Readonly<Record<string, Readonly<Record<string, FieldKind>>>>;

type FieldKind = 'text' | 'number' | 'text?' | 'number?';

export type RejectionReason = keyof typeof rejectionFields;

/** The facts of a reason, for a program that reads the error. */
export type FieldsOf<R extends RejectionReason> = {
  readonly [F in keyof (typeof rejectionFields)[R]]: ValueOf<(typeof rejectionFields)[R][F]>;
};

type ValueOf<K> = K extends 'text'
  ? string
  : K extends 'number'
    ? number
    : K extends 'text?'
      ? string | null
      : number | null;

/** A wrong field of a request. `field` is its path in the proto's names: `records[3].key`. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

export class Rejection extends Error {
  override readonly name = 'Rejection';
  readonly reason: RejectionReason;
  readonly fields: Readonly<Record<string, string | number | null>>;
  readonly violations: readonly FieldViolation[];

  /** Only the constructors of this folder may call this. A lint rule bans other callers. */
  constructor(
    reason: RejectionReason,
    message: string,
    fields: Rejection['fields'],
    violations: readonly FieldViolation[],
  ) {
    super(message);
    this.reason = reason;
    this.fields = fields;
    this.violations = violations;
  }

  /** The fields for ErrorInfo, as texts. Fields that are null are left out. */
  get metadata(): Readonly<Record<string, string>> {
    const given = Object.entries(this.fields).filter(([, value]) => value !== null);
    return Object.fromEntries(given.map(([name, value]) => [name, String(value)]));
  }
}

export type RejectionOf<R extends RejectionReason> = Rejection & { readonly reason: R; readonly fields: FieldsOf<R> };

/** A rejection whose fields are those of its reason. */
export function rejection<R extends RejectionReason>(
  reason: R,
  message: string,
  fields: FieldsOf<R>,
  violations: readonly FieldViolation[] = [],
): RejectionOf<R> {
  return new Rejection(reason, message, fields, violations) as RejectionOf<R>;
}
