import type { AssignorName, MemberId, MemberKind, GroupState } from '../coordinator/group.ts';
import type { EventSink, MemberStream, BlockedOn, PartitionStatus, TopicPartition } from '../delivery/session.ts';
import type { RecordSet } from '../log/batch.ts';
import type { PublishedRecords } from '../log/partition-log.ts';

/**
 * The broker's calls as the edges see them: one method for each RPC, in plain types. Every method rejects with a
 * `Rejection` (the caller's affair) or a `Fault` (the database's); anything else is a bug. The edge has validated the shapes
 * and limits of a request by then; the broker judges what depends on its state.
 */
export interface Broker {
  publish(caller: Caller, command: PublishCommand): Promise<PublishedRecords | null>;
  subscribe(caller: Caller, command: SubscribeCommand, sink: EventSink): Promise<MemberStream>;
  pull(caller: Caller, command: PullCommand): Promise<PullOutcome>;
  ack(caller: Caller, command: AckCommand): Promise<AckOutcome[]>;
  heartbeat(caller: Caller, command: HeartbeatCommand): Promise<HeartbeatOutcome>;

  joinGroup(caller: Caller, command: JoinGroupCommand): Promise<JoinGroupOutcome>;
  syncGroup(caller: Caller, command: SyncGroupCommand): Promise<SyncGroupOutcome>;
  leaveGroup(caller: Caller, command: { readonly group: string; readonly memberId: MemberId }): Promise<void>;
  getGroup(caller: Caller, name: string): Promise<GroupDetails>;
  listGroups(caller: Caller, page: PageRequest): Promise<Page<GroupSummary>>;

  createTopic(caller: Caller, command: CreateTopicCommand): Promise<TopicDetails>;
  getTopic(caller: Caller, name: string): Promise<{ topic: TopicDetails; partitions: readonly PartitionExtent[] }>;
  updateTopic(caller: Caller, command: UpdateTopicCommand): Promise<TopicDetails>;
  listTopics(caller: Caller, page: PageRequest): Promise<Page<TopicDetails>>;
  deleteTopic(caller: Caller, name: string): Promise<void>;

  createSubscription(caller: Caller, command: CreateSubscriptionCommand): Promise<SubscriptionWithCursors>;
  getSubscription(caller: Caller, group: string, topic: string): Promise<SubscriptionWithCursors>;
  listSubscriptions(
    caller: Caller,
    filter: { readonly group: string | null; readonly topic: string | null },
    page: PageRequest,
  ): Promise<Page<SubscriptionDetails>>;
  cancelSubscription(caller: Caller, group: string, topic: string): Promise<SubscriptionDetails>;

  readMessages(caller: Caller, command: ReadMessagesCommand): Promise<ReadMessagesOutcome>;
}

/** Who calls. The one seam through which identity passes; everybody is anonymous today. */
export interface Caller {
  readonly principal: 'anonymous';
  /** The network address of the client. */
  readonly host: string;
}

/** A scanned publish request: records as slices of the request's bytes (src/wire). */
export interface PublishCommand {
  readonly topic: string;
  readonly records: RecordSet;
  /** Per record its idempotency key, null for none; null if no record has one. */
  readonly idempotencyKeys: readonly (string | null)[] | null;
  readonly partition: number | null;
  /** false: ack mode NONE. `publish` then answers null once the records are queued. */
  readonly committed: boolean;
  readonly expectedOffset: number | null;
  /** The stream that the request came by; null for a unary call. */
  readonly stream: PublishStreamToken | null;
}

/**
 * Shared by the requests of one PublishStream, so that no request overtakes an earlier one that failed. Requests of a
 * stream are taken from the publish queue in the order of the `publish` calls.
 */
export interface PublishStreamToken {
  /**
   * Set by the appender when a request that it has taken fails. Each one that it takes while this is set came later: it
   * is refused with the same error and appends nothing.
   */
  failure: Error | null;
  /**
   * Set by `publish`, before it returns, when it refuses a request at once (no such topic, the queue is full); `publish`
   * refuses every later request with it. Those that wait in the queue came earlier and are not concerned.
   */
  refused?: Error;
}

export type StartPosition =
  | { readonly type: 'earliest' }
  | { readonly type: 'latest' }
  | {
      readonly type: 'offsets';
      readonly offset: number | null;
      readonly partitions: readonly { readonly partition: number; readonly offset: number }[];
    }
  /** Microseconds since the epoch. */
  | { readonly type: 'time'; readonly timeUs: number };

export interface SubscribeCommand {
  readonly group: string;
  readonly topics: readonly string[];
  readonly start: StartPosition;
  readonly maxInFlightRecords: number;
  readonly maxInFlightBytes: number;
  readonly clientId: string;
  /** Resume this member; null: a new one. */
  readonly memberId: MemberId | null;
  readonly sessionTimeoutMs: number | null;
  readonly rebalanceTimeoutMs: number;
  readonly assignor: AssignorName;
  readonly autoAck: boolean;
}

export interface PullCommand {
  readonly group: string;
  readonly topics: readonly string[];
  readonly start: StartPosition;
  readonly maxRecords: number;
  readonly maxBytes: number;
  readonly waitMs: number;
  readonly memberId: MemberId | null;
  readonly clientId: string;
  readonly sessionTimeoutMs: number;
  readonly autoAck: boolean;
  /** Aborted when the client has gone: the wait ends, nothing is taken. */
  readonly signal: AbortSignal;
}

export interface PullOutcome {
  readonly memberId: MemberId;
  readonly generation: number;
  /** By the wall clock; null without records or with auto-ack. */
  readonly leaseDeadlineAtMs: number | null;
  /** Encoded field 4 (see `EncodedBatch.bytes`), one for each batch. */
  readonly fields: readonly Buffer[];
  readonly blockedOn: BlockedOn | null;
}

export type AckAction = 'ACK' | 'NACK' | 'RELEASE';
export type AckStatus =
  | 'OK'
  | 'ALREADY_ACKED'
  | 'STALE_GENERATION'
  | 'NOT_OWNER'
  | 'LEASE_EXPIRED'
  | 'UNKNOWN_OFFSET';

export interface AckEntry {
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
  readonly action: AckAction;
  readonly upToOffset: number | null;
  /** Runs [first, last, …], ascending, merged, from `offsets` or `ranges`; null with `upToOffset`. */
  readonly runs: readonly number[] | null;
  /** NACK only; null: the default backoff. */
  readonly delayMs: number | null;
  readonly error: string;
}

export interface AckCommand {
  readonly group: string;
  readonly memberId: MemberId;
  readonly generation: number;
  readonly entries: readonly AckEntry[];
}

export interface AckOutcome {
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
  readonly status: AckStatus;
  /** null if the topic, the partition or the subscription does not exist. */
  readonly committedOffset: number | null;
}

export interface HeartbeatCommand {
  readonly group: string;
  readonly memberId: MemberId;
  readonly generation: number;
  readonly revoked: readonly TopicPartition[];
}

export interface HeartbeatOutcome {
  readonly generation: number;
  readonly heartbeatIntervalMs: number;
  readonly revoking: readonly TopicPartition[];
}

export interface JoinGroupCommand {
  readonly group: string;
  readonly topics: readonly string[];
  readonly start: StartPosition;
  readonly clientId: string;
  readonly memberId: MemberId | null;
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  readonly assignor: AssignorName;
}

export interface JoinGroupOutcome {
  readonly memberId: MemberId;
  readonly generation: number;
  readonly heartbeatIntervalMs: number;
  readonly sessionTimeoutMs: number;
}

export interface SyncGroupCommand {
  readonly group: string;
  readonly memberId: MemberId;
  readonly knownGeneration: number | null;
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

export interface SyncGroupOutcome {
  readonly generation: number;
  readonly partitions: readonly TopicPartition[];
  readonly revoking: readonly TopicPartition[];
}

export interface PageRequest {
  readonly size: number;
  /** The `nextToken` of the page before; empty for the first. */
  readonly token: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Empty at the end. */
  readonly nextToken: string;
}

export interface GroupSummary {
  readonly name: string;
  readonly state: GroupState;
  readonly generation: number;
  readonly assignor: AssignorName;
  readonly memberCount: number;
  readonly topics: readonly string[];
}

export interface MemberDetails {
  readonly memberId: MemberId;
  readonly clientId: string;
  readonly host: string;
  readonly kind: MemberKind;
  readonly topics: readonly string[];
  readonly partitions: readonly TopicPartition[];
  readonly revoking: readonly TopicPartition[];
  readonly sessionTimeoutMs: number | null;
  readonly inFlightRecords: number;
  readonly blockedOn: BlockedOn | null;
}

export interface GroupDetails {
  readonly group: GroupSummary;
  readonly members: readonly MemberDetails[];
  readonly partitions: readonly PartitionStatus[];
}

export interface CreateTopicCommand {
  readonly name: string;
  readonly partitions: number;
  readonly idempotencyWindowMs: number;
  readonly description: string;
}

export interface UpdateTopicCommand {
  readonly name: string;
  readonly idempotencyWindowMs?: number;
  readonly description?: string;
}

export interface TopicDetails {
  readonly name: string;
  readonly semantics: 'PUB_SUB';
  readonly partitions: number;
  readonly idempotencyWindowMs: number;
  readonly description: string;
  readonly createdAtMs: number;
}

export interface PartitionExtent {
  readonly partition: number;
  readonly logStartOffset: number;
  readonly highWatermark: number;
}

export interface CreateSubscriptionCommand {
  readonly group: string;
  readonly topic: string;
  readonly start: StartPosition;
}

export interface SubscriptionDetails {
  readonly id: number;
  readonly group: string;
  readonly topic: string;
  readonly state: 'ACTIVE' | 'CANCELLED';
  readonly createdAtMs: number;
}

export interface SubscriptionWithCursors {
  readonly subscription: SubscriptionDetails;
  readonly partitions: readonly PartitionStatus[];
}

export interface ReadMessagesCommand {
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
  readonly from: { readonly offset: number } | { readonly timeUs: number } | null;
  readonly maxRecords: number;
  readonly maxBytes: number;
}

export interface ReadMessagesOutcome {
  /** Encoded field 4 (see `EncodedBatch.bytes`), one for each batch. */
  readonly fields: readonly Buffer[];
  readonly nextOffset: number;
  readonly highWatermark: number;
  readonly logStartOffset: number;
}
