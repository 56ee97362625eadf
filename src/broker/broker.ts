import type {
  AckCommand,
  AckOutcome,
  CommitOffsetsCommand,
  CommittedOffset,
  CreateSubscriptionCommand,
  FetchedOffset,
  GroupDetails,
  GroupFilter,
  GroupSummary,
  HeartbeatCommand,
  HeartbeatOutcome,
  JoinGroupCommand,
  JoinGroupOutcome,
  MemberDetails,
  NamedLog,
  PullCommand,
  PullOutcome,
  ResetOffset,
  ResetOffsetsCommand,
  SubscribeCommand,
  SubscriptionDetails,
  SubscriptionWithCursors,
  SyncGroupCommand,
  SyncGroupOutcome,
} from '../delivery/ports/calls.ts';
import type { EventSink, MemberId, MemberStream } from '../delivery/ports/session.ts';
import type { StoredRebalance } from '../delivery/ports/store.ts';
import type { PublishCommand, PublishedRecords } from '../commit/publish.ts';

export type * from '../delivery/ports/calls.ts';
export type { StoredRebalance } from '../delivery/ports/store.ts';
export type { PublishCommand, PublishedRecords, PublishStreamToken } from '../commit/publish.ts';

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
  listGroups(caller: Caller, filter: GroupFilter, page: PageRequest): Promise<Page<GroupSummary>>;
  listMembers(
    caller: Caller,
    group: string,
    page: PageRequest,
  ): Promise<Page<MemberDetails> & { readonly generation: number }>;
  listRebalances(caller: Caller, group: string): Promise<readonly StoredRebalance[]>;
  deleteGroup(caller: Caller, name: string): Promise<void>;
  commitOffsets(caller: Caller, command: CommitOffsetsCommand): Promise<CommittedOffset[]>;
  fetchOffsets(caller: Caller, command: FetchOffsetsCommand): Promise<Page<FetchedOffset>>;
  resetOffsets(caller: Caller, command: ResetOffsetsCommand): Promise<ResetOffset[]>;

  createTopic(caller: Caller, command: CreateTopicCommand): Promise<TopicDetails>;
  getTopic(caller: Caller, name: string): Promise<TopicExtent>;
  updateTopic(caller: Caller, command: UpdateTopicCommand): Promise<TopicDetails>;
  addPartitions(caller: Caller, command: AddPartitionsCommand): Promise<TopicExtent>;
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

export interface FetchOffsetsCommand {
  readonly group: string;
  /** Empty: all. */
  readonly partitions: readonly NamedLog[];
  readonly page: PageRequest;
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

export interface AddPartitionsCommand {
  readonly name: string;
  /** In all, afterwards. */
  readonly partitions: number;
}

export interface TopicDetails {
  readonly name: string;
  readonly semantics: 'PUB_SUB';
  readonly partitions: number;
  readonly idempotencyWindowMs: number;
  readonly description: string;
  readonly createdAtMs: number;
}

export interface TopicExtent {
  readonly topic: TopicDetails;
  /** In order. */
  readonly partitions: readonly PartitionExtent[];
}

export interface PartitionExtent {
  readonly partition: number;
  readonly lane: number;
  readonly logStartOffset: number;
  readonly highWatermark: number;
}

export interface ReadMessagesCommand extends NamedLog {
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
