import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { SubscribeResponseSchema } from '../../gen/millrace/v1/broker_pb.js';
import type { BatchSchema } from '../../gen/millrace/v1/record_pb.js';
import type {
  AckCommand,
  AckOutcome,
  AddPartitionsCommand,
  Broker,
  Caller,
  CommitOffsetsCommand,
  CommittedOffset,
  CreateTopicCommand,
  FetchedOffset,
  FetchOffsetsCommand,
  GroupFilter,
  HeartbeatCommand,
  JoinGroupCommand,
  Page,
  PageRequest,
  PublishCommand,
  PullCommand,
  PullOutcome,
  ReadMessagesCommand,
  ResetOffset,
  ResetOffsetsCommand,
  StoredRebalance,
  SubscribeCommand,
  SyncGroupCommand,
  TopicDetails,
  UpdateTopicCommand,
} from '../../src/broker/broker.ts';
import type {
  EventSink,
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
export class FakeBroker implements Broker {
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
  /** What GetGroup and ListRebalances return. */
  partitions: PartitionStatus[] = [];
  rebalances: StoredRebalance[] = [];

  addTopic(name: string): void {
    const details = { semantics: 'PUB_SUB', partitions: 3, idempotencyWindowMs: 120_000, description: '' } as const;
    this.topics.set(name, { name, createdAtMs: 1_700_000_000_000, ...details });
  }

  publish(caller: Caller, command: PublishCommand): Promise<PublishedRecords | null> {
    const { stream } = command;
    try {
      if (stream?.refused !== undefined) throw stream.refused;
      this.#called(caller, command);
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
    this.#called(caller, command);
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

  async pull(caller: Caller, command: PullCommand): Promise<PullOutcome> {
    this.#called(caller, command);
    if (command.waitMs > 0) {
      await new Promise((resolve) => {
        command.reply.whenLost(() => {
          resolve(undefined);
        });
      });
    }
    return { memberId, generation: 1, leaseDeadlineAtMs: null, fields: this.fields, blockedOn: 'CAUGHT_UP' };
  }

  async ack(caller: Caller, command: AckCommand): Promise<AckOutcome[]> {
    this.#called(caller, command);
    this.acks.push(command);
    return command.entries.map(({ topic, partition, lane }) => {
      return { topic, partition, lane: lane ?? 0, status: 'OK', committedOffset: 1 };
    });
  }

  async heartbeat(caller: Caller, command: HeartbeatCommand) {
    this.#called(caller, command);
    return { generation: 0, heartbeatIntervalMs: 3_000, revoking: command.revoked, planWanted: false };
  }

  async joinGroup(caller: Caller, command: JoinGroupCommand) {
    this.#called(caller, command);
    const { sessionTimeoutMs, maxPollIntervalMs, assignor } = command;
    const joined = { memberId, generation: 1, heartbeatIntervalMs: 3_000, leaderId: null, assignor, task: null };
    return { ...joined, sessionTimeoutMs, maxPollIntervalMs };
  }

  async syncGroup(caller: Caller, command: SyncGroupCommand) {
    this.#called(caller, command);
    return { generation: 1, partitions: [{ topic: 'orders', partition: 0 }], revoking: [] };
  }

  async leaveGroup(caller: Caller, command: unknown): Promise<void> {
    this.#called(caller, command);
  }

  async getGroup(caller: Caller, name: string) {
    this.#called(caller, name);
    const group = {
      name,
      state: 'STABLE',
      generation: 1,
      assignor: 'sticky',
      leaderId: null,
      memberCount: 0,
      topics: ['orders'],
      lag: 0,
      inFlightRecords: 0,
    } as const;
    return { group, members: [], partitions: this.partitions };
  }

  async listGroups(caller: Caller, filter: GroupFilter, page: PageRequest): Promise<Page<never>> {
    this.#called(caller, [filter, page]);
    return { items: [], nextToken: '' };
  }

  async deleteGroup(caller: Caller, name: string): Promise<void> {
    this.#called(caller, name);
  }

  async commitOffsets(caller: Caller, command: CommitOffsetsCommand): Promise<CommittedOffset[]> {
    this.#called(caller, command);
    return command.offsets.map(({ topic, partition, lane, offset }) => {
      return { topic, partition, lane: lane ?? 0, status: 'OK', committedOffset: offset };
    });
  }

  async fetchOffsets(caller: Caller, command: FetchOffsetsCommand): Promise<Page<FetchedOffset>> {
    this.#called(caller, command);
    const committed = { offset: 0, metadata: '', highWatermark: 0, lag: 0 };
    const items = command.partitions.map((one) => ({ ...one, lane: 0, status: 'OK' as const, committed }));
    return { items, nextToken: '' };
  }

  async resetOffsets(caller: Caller, command: ResetOffsetsCommand): Promise<ResetOffset[]> {
    this.#called(caller, command);
    return command.partitions.map((one) => ({ ...one, lane: 0, previousOffset: 0, offset: 0, lag: 0 }));
  }

  async listMembers(caller: Caller, group: string, page: PageRequest) {
    this.#called(caller, [group, page]);
    return { items: [], nextToken: '', generation: 0 };
  }

  async listRebalances(caller: Caller, group: string): Promise<readonly StoredRebalance[]> {
    this.#called(caller, group);
    return this.rebalances;
  }

  async createTopic(caller: Caller, command: CreateTopicCommand): Promise<TopicDetails> {
    this.#called(caller, command);
    if (this.topics.has(command.name)) throw topicExists({ topic: command.name });
    const topic = { semantics: 'PUB_SUB', createdAtMs: 1_700_000_000_000, ...command } as const;
    this.topics.set(command.name, topic);
    return topic;
  }

  async getTopic(caller: Caller, name: string) {
    this.#called(caller, name);
    return { topic: this.#topic(name), partitions: [{ partition: 0, lane: 0, logStartOffset: 0, highWatermark: 0 }] };
  }

  async updateTopic(caller: Caller, command: UpdateTopicCommand): Promise<TopicDetails> {
    this.#called(caller, command);
    return { ...this.#topic(command.name), ...command };
  }

  async addPartitions(caller: Caller, command: AddPartitionsCommand) {
    this.#called(caller, command);
    const topic = { ...this.#topic(command.name), partitions: command.partitions };
    const extent = { lane: 0, logStartOffset: 0, highWatermark: 0 };
    return {
      topic,
      partitions: Array.from({ length: command.partitions }, (_, partition) => ({ partition, ...extent })),
    };
  }

  async listTopics(caller: Caller, page: PageRequest): Promise<Page<TopicDetails>> {
    this.#called(caller, page);
    return { items: [...this.topics.values()], nextToken: '' };
  }

  async deleteTopic(caller: Caller, name: string): Promise<void> {
    this.#called(caller, name);
    this.topics.delete(name);
  }

  async createSubscription(caller: Caller, command: { group: string; topic: string }) {
    this.#called(caller, command);
    return { subscription: subscription(command.group, command.topic), partitions: [] };
  }

  async getSubscription(caller: Caller, group: string, topic: string) {
    this.#called(caller, [group, topic]);
    return { subscription: subscription(group, topic), partitions: [] };
  }

  async listSubscriptions(caller: Caller, filter: unknown, page: PageRequest): Promise<Page<never>> {
    this.#called(caller, [filter, page]);
    return { items: [], nextToken: '' };
  }

  async cancelSubscription(caller: Caller, group: string, topic: string) {
    this.#called(caller, [group, topic]);
    return { ...subscription(group, topic), state: 'CANCELLED' } as const;
  }

  async readMessages(caller: Caller, command: ReadMessagesCommand) {
    this.#called(caller, command);
    return { fields: this.fields, nextOffset: 0, highWatermark: 0, logStartOffset: 0 };
  }

  #called(_caller: Caller, command: unknown): void {
    this.calls.push(command);
    if (this.fail !== null) throw this.fail;
  }

  #topic(name: string): TopicDetails {
    const topic = this.topics.get(name);
    if (topic === undefined) throw topicNotFound({ topic: name });
    return topic;
  }
}

function subscription(group: string, topic: string) {
  return { id: 1, group, topic, state: 'ACTIVE', createdAtMs: 1_700_000_000_000 } as const;
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
