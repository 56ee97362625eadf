import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { SubscribeResponseSchema } from '../../gen/millrace/v1/broker_pb.js';
import type { BatchSchema } from '../../gen/millrace/v1/record_pb.js';
import type { Caller } from '../../src/broker/caller.ts';
import type {
  AckCommand,
  AckOutcome,
  AddPartitionsCommand,
  CommitOffsetsCommand,
  CommittedOffset,
  CreateSubscriptionCommand,
  CreateTopicCommand,
  FetchedOffset,
  FetchOffsetsCommand,
  GroupFilter,
  HeartbeatCommand,
  JoinGroupCommand,
  PublishCommand,
  PullCommand,
  PullOutcome,
  ReadMessagesCommand,
  ResetOffset,
  ResetOffsetsCommand,
  StoredRebalance,
  SubscribeCommand,
  SubscriptionDetails,
  SubscriptionFilter,
  SyncGroupCommand,
  TopicDetails,
  TopicStorage,
  UpdateTopicCommand,
} from '../../src/broker/commands.ts';
import type { Page, PageRequest } from '../../src/broker/pages/paging.ts';
import type { Services } from '../../src/broker/services.ts';
import type {
  EventSink,
  GapOfLog,
  MemberId,
  MemberStream,
  PartitionStatus,
  StreamEnd,
} from '../../src/delivery/ports/session.ts';
import { topicExists, topicNotFound } from '../../src/errors/rejections/topics.ts';
import type { PublishedRecords } from '../../src/commit/publish.ts';

/** A stream that a client has opened, as the broker sees it. */
export interface OpenedStream {
  readonly caller: Caller;
  readonly command: SubscribeCommand;
  readonly sink: EventSink;
  closed: boolean;
  /** Why it was closed. */
  end: StreamEnd | null;
}

export const memberId = 'member-1' as MemberId;

/** A broker in memory: it remembers what it was asked, and `fail` makes the next calls throw. */
export class FakeBroker implements Services {
  readonly broker = this;
  readonly group = this;
  readonly topic = this;
  readonly subscription = this;
  readonly message = this;
  readonly topics = new Map<string, TopicDetails>();
  readonly published: PublishCommand[] = [];
  readonly streams: OpenedStream[] = [];
  readonly acks: AckCommand[] = [];
  readonly calls: unknown[] = [];
  fail: Error | null = null;
  /** What publish waits for. */
  commit: (command: PublishCommand) => Promise<void> = () => Promise.resolve();
  /** What Pull and ReadMessages return. */
  fields: Buffer[] = [];
  /** What Pull returns beside them. */
  gaps: GapOfLog[] = [];
  /** What GetGroup and ListRebalances return. */
  partitions: PartitionStatus[] = [];
  rebalances: StoredRebalance[] = [];
  /** What GetTopicStorage returns. */
  storage: TopicStorage = { storedBytes: 0, segments: { items: [], nextToken: '' }, keptBy: [], drops: [] };

  addTopic(name: string): void {
    const details = { semantics: 'PUB_SUB', partitions: 3, idempotencyWindowMs: 120_000, description: '' } as const;
    this.topics.set(name, { name, createdAtMs: 1_700_000_000_000, retention, ...details });
  }

  publish(command: PublishCommand): Promise<PublishedRecords | null> {
    const { stream } = command;
    try {
      if (stream?.refused !== undefined) throw stream.refused;
      this.#called(command);
      this.#topic(command.topic);
    } catch (error) {
      const refusal = error as Error;
      if (stream !== null) stream.refused ??= refusal;
      return Promise.reject(refusal);
    }
    if (stream !== null && stream.failure !== null) return Promise.reject(stream.failure);
    this.published.push(command);
    return this.#append(command);
  }

  async #append(command: PublishCommand): Promise<PublishedRecords | null> {
    await this.commit(command);
    if (!command.committed) return null;
    const { count } = command.records;
    const partitions = new Int32Array(count).fill(command.partition ?? 0);
    return { partitions, offsets: Float64Array.from({ length: count }, (_, index) => index), duplicates: null };
  }

  subscribe(caller: Caller, command: SubscribeCommand, sink: EventSink): Promise<MemberStream> {
    this.#called(command);
    const stream: OpenedStream = { caller, command, sink, closed: false, end: null };
    this.streams.push(stream);
    const { sessionTimeoutMs, maxPollIntervalMs } = command;
    const timeouts = { heartbeatIntervalMs: null, sessionTimeoutMs, maxPollIntervalMs };
    sink.send({ type: 'joined', memberId, generation: 1, ...timeouts });
    return Promise.resolve({
      closed: (reason) => {
        stream.closed = true;
        stream.end = reason;
      },
    });
  }

  async pull(_caller: Caller, command: PullCommand): Promise<PullOutcome> {
    this.#called(command);
    if (command.waitMs > 0) {
      await new Promise((resolve) => {
        command.reply.whenLost(() => {
          resolve(undefined);
        });
      });
    }
    const { fields, gaps } = this;
    return { memberId, generation: 1, leaseDeadlineAtMs: null, fields, blockedOn: 'CAUGHT_UP', gaps };
  }

  async ack(command: AckCommand): Promise<AckOutcome[]> {
    this.#called(command);
    this.acks.push(command);
    return command.entries.map(({ topic, partition, lane }) => {
      return { topic, partition, lane: lane ?? 0, status: 'OK', committedOffset: 1 };
    });
  }

  async heartbeat(command: HeartbeatCommand) {
    this.#called(command);
    return {
      generation: 0,
      heartbeatIntervalMs: 3_000,
      revoking: command.revoked,
      moreRevoking: false,
      planWanted: false,
    };
  }

  async joinGroup(_caller: Caller, command: JoinGroupCommand) {
    this.#called(command);
    const { sessionTimeoutMs, maxPollIntervalMs, assignor } = command;
    const joined = { memberId, generation: 1, heartbeatIntervalMs: 3_000, leaderId: null, assignor, task: null };
    return { ...joined, sessionTimeoutMs, maxPollIntervalMs };
  }

  async syncGroup(command: SyncGroupCommand) {
    this.#called(command);
    return { generation: 1, partitions: [{ topic: 'orders', partition: 0 }], revoking: [], nextToken: '' };
  }

  async leaveGroup(command: unknown): Promise<void> {
    this.#called(command);
  }

  async getGroup(name: string, page: PageRequest) {
    this.#called([name, page]);
    const group = {
      name,
      state: 'STABLE',
      generation: 1,
      assignor: 'sticky',
      leaderId: null,
      memberCount: 0,
      topics: ['orders'],
      topicCount: 1,
      lag: 0,
      inFlightRecords: 0,
    } as const;
    return { group, members: [], partitions: this.partitions, nextToken: '' };
  }

  async listGroups(filter: GroupFilter, page: PageRequest): Promise<Page<never>> {
    this.#called([filter, page]);
    return { items: [], nextToken: '' };
  }

  async deleteGroup(name: string): Promise<void> {
    this.#called(name);
  }

  async commitOffsets(command: CommitOffsetsCommand): Promise<CommittedOffset[]> {
    this.#called(command);
    return command.offsets.map(({ topic, partition, lane, offset }) => {
      return { topic, partition, lane: lane ?? 0, status: 'OK', committedOffset: offset };
    });
  }

  async fetchOffsets(command: FetchOffsetsCommand): Promise<Page<FetchedOffset>> {
    this.#called(command);
    const committed = { offset: 0, metadata: '', highWatermark: 0, lag: 0 };
    const items = command.partitions.map((one) => ({ ...one, lane: 0, status: 'OK' as const, committed }));
    return { items, nextToken: '' };
  }

  async resetOffsets(command: ResetOffsetsCommand): Promise<ResetOffset[]> {
    this.#called(command);
    return command.partitions.map((one) => ({ ...one, lane: 0, previousOffset: 0, offset: 0, lag: 0 }));
  }

  async listMembers(group: string, page: PageRequest) {
    this.#called([group, page]);
    return { items: [], nextToken: '', generation: 0 };
  }

  async listRebalances(group: string): Promise<readonly StoredRebalance[]> {
    this.#called(group);
    return this.rebalances;
  }

  async createTopic(command: CreateTopicCommand): Promise<TopicDetails> {
    this.#called(command);
    if (this.topics.has(command.name)) throw topicExists({ topic: command.name });
    const topic = { semantics: 'PUB_SUB', createdAtMs: 1_700_000_000_000, ...command } as const;
    this.topics.set(command.name, topic);
    return topic;
  }

  async getTopic(name: string, page: PageRequest) {
    this.#called([name, page]);
    const items = [{ partition: 0, lane: 0, logStartOffset: 0, highWatermark: 0, watermark: 0 }];
    return { topic: this.#topic(name), partitions: { items, nextToken: '' } };
  }

  async getTopicStorage(name: string, page: PageRequest): Promise<TopicStorage> {
    this.#called([name, page]);
    this.#topic(name);
    return this.storage;
  }

  async updateTopic(command: UpdateTopicCommand): Promise<TopicDetails> {
    this.#called(command);
    const topic = this.#topic(command.name);
    return { ...topic, ...command, retention: { ...topic.retention, ...command.retention } };
  }

  async addPartitions(command: AddPartitionsCommand) {
    this.#called(command);
    const topic = { ...this.#topic(command.name), partitions: command.partitions };
    const extent = { lane: 0, logStartOffset: 0, highWatermark: 0, watermark: 0 };
    const items = Array.from({ length: command.partitions }, (_, partition) => ({ partition, ...extent }));
    return { topic, partitions: { items, nextToken: '' } };
  }

  async listTopics(page: PageRequest): Promise<Page<TopicDetails>> {
    this.#called(page);
    return { items: [...this.topics.values()], nextToken: '' };
  }

  async deleteTopic(name: string): Promise<void> {
    this.#called(name);
    this.topics.delete(name);
  }

  async createSubscription(command: CreateSubscriptionCommand) {
    this.#called(command);
    const { group, topic, deadAfterMs = 240_000 } = command;
    return { subscription: { ...subscription(group, topic), deadAfterMs }, partitions: { items: [], nextToken: '' } };
  }

  async getSubscription(group: string, topic: string, page: PageRequest) {
    this.#called([group, topic, page]);
    return { subscription: subscription(group, topic), partitions: { items: [], nextToken: '' } };
  }

  async listSubscriptions(filter: SubscriptionFilter, page: PageRequest): Promise<Page<never>> {
    this.#called([filter, page]);
    return { items: [], nextToken: '' };
  }

  async updateSubscription(group: string, topic: string, deadAfterMs: number | null): Promise<SubscriptionDetails> {
    this.#called([group, topic, deadAfterMs]);
    return { ...subscription(group, topic), deadAfterMs };
  }

  async pauseSubscription(group: string, topic: string): Promise<SubscriptionDetails> {
    this.#called([group, topic]);
    return { ...subscription(group, topic), state: 'PAUSED', stateReason: 'PAUSED' };
  }

  async resumeSubscription(group: string, topic: string): Promise<SubscriptionDetails> {
    this.#called([group, topic]);
    return { ...subscription(group, topic), stateReason: 'RESUMED' };
  }

  async cancelSubscription(group: string, topic: string): Promise<SubscriptionDetails> {
    this.#called([group, topic]);
    return { ...subscription(group, topic), state: 'CANCELLED', stateReason: 'CANCELLED' };
  }

  async readMessages(command: ReadMessagesCommand) {
    this.#called(command);
    return { fields: this.fields, nextOffset: 0, highWatermark: 0, logStartOffset: 0 };
  }

  #called(command: unknown): void {
    this.calls.push(command);
    if (this.fail !== null) throw this.fail;
  }

  #topic(name: string): TopicDetails {
    const topic = this.topics.get(name);
    if (topic === undefined) throw topicNotFound({ topic: name });
    return topic;
  }
}

const retention = {
  afterCompletionMs: 604_800_000,
  excusedKeepMs: 604_800_000,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: 86_400_000,
} as const;

function subscription(group: string, topic: string): SubscriptionDetails {
  const life = { state: 'ACTIVE', stateReason: 'CREATED', stateChangedAtMs: 1_700_000_000_000 } as const;
  const death = { deadAfterMs: 240_000, unattendedSinceMs: null };
  return { id: 1, group, topic, createdAtMs: 1_700_000_000_000, ...life, ...death };
}

/** An encoded batch as the log gives it: field 4 of an event. */
export function batchField(batch: MessageInitShape<typeof BatchSchema>): Buffer {
  const event = { case: 'batch', value: batch } as const;
  return Buffer.from(toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { event })));
}

export function oneRecord(value: string, offset = 0n): Buffer {
  const record = { key: 'k1', value: Buffer.from(value), headers: { type: 'OrderPlaced' } };
  return batchField({ topic: 'orders', partition: 0, lane: 0, records: [{ offset, attempt: 1, record }] });
}
