import type { ErrorKind, ErrorRow } from './error-row.ts';

/**
 * The code, the details and the meaning of each kind of error. A missing row does not compile.
 * `npm run generate` writes docs/errors.md from this table, in this order.
 */
export const errorTable: Readonly<Record<ErrorKind, ErrorRow>> = {
  INVALID_FIELD: {
    code: 'INVALID_ARGUMENT',
    violations: true,
    happened:
      "A field breaks a limit or a rule of the proto's comments, or a required field is not " +
      'set: `partition` where a request names it with an offset or a claim, `generation` of an ' +
      'ack. Nothing has changed.',
    remedy: 'Correct the fields that are named.',
  },
  MALFORMED_REQUEST: {
    code: 'INVALID_ARGUMENT',
    happened:
      "The bytes are not the request's message: broken protobuf or JSON, text that is not UTF-8 " +
      '(half of a surrogate pair too), a text that is no decimal number where one belongs, a ' +
      'broken envelope. In protobuf a Publish names the text by its field, as `INVALID_FIELD`. Or the ' +
      'JSON is deeper than 32 levels or has more than 50,000 list entries or 250,000 keys, or the ' +
      'request comes in more than 1,024 pieces and one for each KiB.',
    remedy: 'Encode with the generated code.',
  },
  REQUEST_TOO_LARGE: {
    code: 'INVALID_ARGUMENT',
    happened:
      'The request is larger than 4 MiB; in JSON, a Publish than 8 MiB and any other request than 1 MiB. ' +
      '`bytesMax` in the metadata is the limit.',
    remedy: 'Send fewer records or entries at once.',
  },
  UNIMPLEMENTED_METHOD: {
    code: 'UNIMPLEMENTED',
    happened: 'The broker has no method of this path.',
    remedy: 'Correct the path, or upgrade the broker.',
  },
  SERVICE_NOT_FOUND: {
    code: 'NOT_FOUND',
    happened: 'A health check asked for a service that the broker does not have.',
    remedy: 'Correct the name; the empty name is the broker as a whole.',
  },
  COMPRESSION_REFUSED: {
    code: 'UNIMPLEMENTED',
    happened: 'The request is compressed, which the broker refuses before it unpacks anything.',
    remedy: 'Send requests uncompressed; values may be compressed by their publisher.',
  },
  DEADLINE_EXCEEDED: {
    code: 'DEADLINE_EXCEEDED',
    happened: "The call was not answered within its client's deadline (`grpc-timeout`). It may have been done.",
    remedy: 'Repeat with a longer deadline; a publish with its idempotency keys.',
  },
  DATA_REFUSED: {
    code: 'INVALID_ARGUMENT',
    text: 'the database refuses this data; nothing has changed',
    happened: 'The database refuses what the request holds. Nothing has changed.',
    remedy:
      "Look into the broker's log, which has the cause with its SQLSTATE; please report it, " +
      'since a check should have told you more.',
  },
  PARTITION_OUT_OF_RANGE: {
    code: 'INVALID_ARGUMENT',
    happened: 'The topic has no such partition, or the partition no such lane.',
    remedy: 'Ask GetTopic for the partitions.',
  },
  LANE_REQUIRED: {
    code: 'INVALID_ARGUMENT',
    happened:
      'Each partition of the topic has more than one lane (`lanes` in the metadata says how ' +
      'many), and the call names an offset of none of them, or its member has not said `lanes`. ' +
      'Nothing has changed. No topic has more than one lane yet.',
    remedy: 'Name the lane that the batch or GetTopic says; set `lanes` once acks do so.',
  },
  OFFSET_OUT_OF_RANGE: {
    code: 'OUT_OF_RANGE',
    happened: 'The offset lies beyond the end of the partition, or before its first stored record.',
    remedy: 'Ask GetTopic for the extent of the partition.',
  },
  RECORD_TOO_LARGE_IN_JSON: {
    code: 'FAILED_PRECONDITION',
    happened:
      'The next record needs more than 3.5 MiB in JSON, which is the most that an answer has, because ' +
      'its value is larger than some 2.5 MiB. It was not delivered, and no delivery attempt counts. The ' +
      'metadata name it.',
    remedy:
      'Read it in protobuf. Or go on behind it: ReadMessages from the next offset; a group begins there ' +
      'after ResetOffsets with force.',
  },
  ASSIGNOR_UNKNOWN: {
    code: 'INVALID_ARGUMENT',
    happened:
      'The broker has no assignor of this name. Nothing has changed; `known` in the metadata ' +
      'has the names that there are.',
    remedy: "Correct the name, or start the broker with the assignor's module: docs/assignors.md.",
  },
  TOPIC_NOT_FOUND: {
    code: 'NOT_FOUND',
    happened: 'There is no topic of this name.',
    remedy: 'Create it, or correct the name.',
  },
  GROUP_NOT_FOUND: {
    code: 'NOT_FOUND',
    happened:
      'There is no consumer group of this name, or it was deleted: by DeleteGroup, or because ' +
      'nobody has used it for `--offset-retention-ms`.',
    remedy: 'Subscribe, Pull, JoinGroup or CreateSubscription make one.',
  },
  SUBSCRIPTION_NOT_FOUND: {
    code: 'NOT_FOUND',
    happened: 'The group has no subscription to the topic.',
    remedy: 'Create it, or correct the names.',
  },
  SUBSCRIPTION_STATE: {
    code: 'FAILED_PRECONDITION',
    precondition: 'state',
    happened:
      'The state of the subscription forbids the call: a DEAD one can be neither paused nor resumed. ' +
      '`state` in the metadata names it. Nothing has changed.',
    remedy: 'Let a member of the group come, which makes the subscription ACTIVE; or cancel it.',
  },
  SUBSCRIPTION_CANCELLED: {
    code: 'FAILED_PRECONDITION',
    happened:
      'CancelSubscription has ended a subscription of the member. Its streams and waiting Pulls have ' +
      'ended, and a call with its `member_id` that names the topic is refused.',
    remedy: 'Drop what is in flight. Go on without the topic, or join as a new member to subscribe anew.',
  },
  TOPIC_EXISTS: {
    code: 'ALREADY_EXISTS',
    happened: 'There is a topic of this name.',
    remedy: 'Use it, or choose another name.',
  },
  SUBSCRIPTION_EXISTS: {
    code: 'ALREADY_EXISTS',
    happened: 'The group is subscribed to the topic.',
    remedy: 'Use it; its cursor stays where it is.',
  },
  EXPECTED_OFFSET_MISMATCH: {
    code: 'FAILED_PRECONDITION',
    precondition: 'expected_offset',
    happened:
      'The next offset of the partition is not `expected_offset`; `currentOffset` in the ' +
      'metadata is. Nothing was appended. Records that are all known by their idempotency keys ' +
      'are answered as duplicates instead.',
    remedy: 'Read what was appended meanwhile, then decide anew.',
  },
  NO_SUBSCRIPTIONS: {
    code: 'FAILED_PRECONDITION',
    precondition: 'subscription',
    happened:
      'The topic refuses publishes while nobody is subscribed (`refuse_publish`), and no subscription ' +
      'to it is ACTIVE or PAUSED. Nothing was appended, and records with known idempotency keys are ' +
      'refused too.',
    remedy: 'Subscribe first, or change `zero_subscriptions` of the topic.',
  },
  PARTITIONS_CANNOT_SHRINK: {
    code: 'FAILED_PRECONDITION',
    precondition: 'partitions',
    happened:
      'The topic has more partitions than AddPartitions was asked for; `partitions` in the ' +
      'metadata is how many. Nothing has changed.',
    remedy: 'Ask for more than it has, or make another topic.',
  },
  PUBLISH_QUEUE_FULL: {
    code: 'RESOURCE_EXHAUSTED',
    retryAfterMs: 100,
    quota: 'publish queue',
    happened: 'Too many bytes wait to be appended. Nothing of the request was appended.',
    remedy: 'Slow down and repeat after the delay.',
  },
  BROKER_FULL: {
    code: 'RESOURCE_EXHAUSTED',
    retryAfterMs: 10_000,
    quota: 'memory of the broker',
    happened:
      "The broker's memory has no room for more topics, groups, members, cursors, or the notes " +
      'and acks that a cursor keeps; `kind` in the metadata says of which. Nothing has changed, ' +
      'and what is there goes on.',
    remedy: 'Start it with a larger `HEAP_MIB`, or delete topics, groups or subscriptions: docs/memory.md.',
  },
  BROKER_BUSY: {
    code: 'RESOURCE_EXHAUSTED',
    retryAfterMs: 1_000,
    quota: 'memory for calls under way',
    happened:
      "The broker's memory is full of calls under way, of all clients; `kind` in the metadata " +
      'says of which part of them. Nothing has changed.',
    remedy: 'Repeat after the delay, with smaller requests; start the broker with a larger `HEAP_MIB`.',
  },
  CONNECTION_BUSY: {
    code: 'RESOURCE_EXHAUSTED',
    retryAfterMs: 1_000,
    quota: 'memory of a connection',
    happened:
      'The connection has as many calls under way, or unread answers, as one connection may ' +
      'have. Nothing has changed.',
    remedy: 'Read the answers, let calls end, or open another connection.',
  },
  GROUP_MEMBERS_MAX: {
    code: 'RESOURCE_EXHAUSTED',
    quota: 'members of a group',
    happened: 'The group has as many members as it may have.',
    remedy: 'Let a member leave, or raise the limit.',
  },
  GROUP_TOPICS_MAX: {
    code: 'RESOURCE_EXHAUSTED',
    quota: 'topics of a group',
    happened: 'The group is subscribed to as many topics as it may be (1,000).',
    remedy: 'Use another group, or cancel subscriptions.',
  },
  GROUP_TASK_TOO_LARGE: {
    code: 'RESOURCE_EXHAUSTED',
    quota: 'assignment task of a group',
    happened:
      'The members of the group assign by themselves, and what they tell their leader (`metadata`, ' +
      'names, topics) would not fit into one answer. Nothing has changed.',
    remedy: 'Join with less metadata, or let fewer members share a group.',
  },
  MEMBER_PULLS_MAX: {
    code: 'RESOURCE_EXHAUSTED',
    retryAfterMs: 1_000,
    quota: 'pulls of a member',
    happened: 'The member has as many pulls under way as it may have (10). Nothing has changed.',
    remedy: 'Pull again once one of them has ended, or pull without a `member_id`, as another member.',
  },
  GROUP_NOT_EMPTY: {
    code: 'FAILED_PRECONDITION',
    precondition: 'group_without_members',
    happened:
      'The group has members, or a member is joining; `members` in the metadata says how many. ' +
      'DeleteGroup, ResetOffsets without `force` and CommitOffsets without a member need a ' +
      'group without any. Nothing has changed.',
    remedy: 'Let the members leave, or use `force`.',
  },
  GROUP_DELETED: {
    code: 'ABORTED',
    retryAfterMs: 100,
    happened: 'The group was deleted while the call was under way.',
    remedy: 'Repeat: the call makes the group anew.',
  },
  INSTANCE_FENCED: {
    code: 'ABORTED',
    happened: "Another process has joined with the member's group instance id and has taken its place.",
    remedy: 'End this process, or give it an instance id of its own.',
  },
  INSTANCE_ID_IN_USE: {
    code: 'ALREADY_EXISTS',
    happened:
      'The member joined under another group instance id, which is fixed; the one that is named is not its own.',
    remedy: 'Name the one that it joined with, or join as a new member.',
  },
  INCONSISTENT_PROTOCOLS: {
    code: 'FAILED_PRECONDITION',
    precondition: 'client_assignors',
    happened:
      'Members of one group assign by themselves, all of them by JoinGroup with a rule in ' +
      '`client_assignors` that they share, or none does. Nothing has changed.',
    remedy: 'Join as the others do, or use another group.',
  },
  ASSIGNOR_FAILED: {
    code: 'FAILED_PRECONDITION',
    precondition: 'assignor',
    happened:
      'The assignor threw or gave an answer that cannot be: a partition twice, forgotten, or to ' +
      "a member that does not read it; or the leader's plan does. The message says which. The " +
      'group is as it was.',
    remedy: 'Correct the assignor or the plan.',
  },
  NOT_LEADER: {
    code: 'PERMISSION_DENIED',
    happened: 'Only the leader hands in a plan; JoinGroup says who it is.',
    remedy: 'Call SyncGroup without a plan.',
  },
  PLAN_STALE: {
    code: 'ABORTED',
    happened: 'The plan is of a generation that is over, or wants none (any more).',
    remedy: 'Call JoinGroup again and plan anew.',
  },
  PAGE_STALE: {
    code: 'ABORTED',
    happened: 'The assignment of the member has changed since the first page of its SyncGroup.',
    remedy: 'Call SyncGroup without a page token, and drop the pages before.',
  },
  MEMBER_FENCED: {
    code: 'ABORTED',
    happened:
      'The group does not know the member, or has removed it (it left, or its session timed ' +
      'out). Its partitions may be with others.',
    remedy: 'Drop what is in flight and join again.',
  },
  REPLACED: {
    code: 'ABORTED',
    happened: 'Another stream has resumed this member.',
    remedy: 'Nothing, if that was you; otherwise give each consumer a member of its own.',
  },
  SLOW_READER: {
    code: 'RESOURCE_EXHAUSTED',
    quota: 'unread bytes of a stream',
    happened:
      'The client has taken nothing of its stream for `--slow-reader-ms` while events waited. No attempt is ' +
      'counted for what was in flight. A client that does not read does not see this error either: the ' +
      'broker cuts the stream off after some seconds.',
    remedy: 'Read the stream from a task of its own, and subscribe again.',
  },
  SYNC_TIMEOUT: {
    code: 'DEADLINE_EXCEEDED',
    happened: 'The assignment that SyncGroup waited for did not come in time.',
    remedy: 'Call SyncGroup again.',
  },
  DRAINING: {
    code: 'UNAVAILABLE',
    retryAfterMs: 500,
    happened: 'This broker is shutting down. Nothing has changed.',
    remedy: 'Repeat after the delay: the next broker answers.',
  },
  NOT_OWNER: {
    code: 'UNAVAILABLE',
    retryAfterMs: 1_000,
    happened:
      'This broker stands by, or another one has taken over, or may have: the database does not ' +
      'answer this one. Nothing has changed.',
    remedy: 'Repeat after the delay, at the active broker: try the others in turn.',
  },
  // Explained with NOT_OWNER.
  FENCED: {
    code: 'UNAVAILABLE',
    reason: 'NOT_OWNER',
    text: 'another broker has taken over; nothing has changed',
    retryAfterMs: 1_000,
    happened: null,
    remedy: null,
  },
  DATABASE_UNAVAILABLE: {
    code: 'UNAVAILABLE',
    text: 'the database is not available; nothing has changed',
    retryAfterMs: 1_000,
    happened:
      'PostgreSQL does not answer, or refuses what the broker asks for, whatever the reason: ' +
      'too few connections, a missing right, a trigger that raises. Nothing has changed.',
    remedy: "Repeat after the delay. The broker's log has the cause with its SQLSTATE.",
  },
  DISK_FULL: {
    code: 'RESOURCE_EXHAUSTED',
    text: 'the disk of the database is full; nothing has changed',
    retryAfterMs: 5_000,
    quota: 'disk of the database',
    happened: 'The database has no space left for what the call writes. Nothing has changed.',
    remedy:
      'Repeat after the delay. Give the database more space, or let topics keep less: what their ' +
      'retention lets go frees space also while the disk is full.',
  },
  DATABASE_READ_ONLY: {
    code: 'UNAVAILABLE',
    text: 'the database takes no writes; nothing has changed',
    retryAfterMs: 1_000,
    happened: 'The database takes no writes: it is a standby, or somebody has set it read-only. Nothing has changed.',
    remedy: 'Repeat after the delay. Let the database take writes, or give the broker the address of the primary.',
  },
  OUTCOME_UNKNOWN: {
    code: 'UNAVAILABLE',
    text: 'the connection to the database broke while committing; the change may or may not have happened',
    retryAfterMs: 1_000,
    happened: 'The connection to PostgreSQL broke while committing: the change may have happened or not.',
    remedy:
      'Repeat. A publish of records with idempotency keys appends nothing twice; others may be ' +
      'there twice. Acks may always be repeated.',
  },
  BUG: {
    code: 'INTERNAL',
    happened: 'The broker met something that should not be. `bugId` in the metadata names the entry in its log.',
    remedy: 'Please report it with that entry.',
  },
};
