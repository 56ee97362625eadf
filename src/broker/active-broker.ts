import type { Publisher } from '../commit/publisher.ts';
import type { Delivery } from '../delivery/delivery.ts';
import type { EventSink, MemberId, MemberStream } from '../delivery/ports/session.ts';
import type { BatchCodec } from '../log/batch.ts';
import type { Log } from '../log/log.ts';
import { demandLog } from '../log/lanes.ts';
import type { Clock } from '../time/clock.ts';
import type {
  AckCommand,
  AckOutcome,
  AddPartitionsCommand,
  Broker,
  Caller,
  CommitOffsetsCommand,
  CommittedOffset,
  CreateSubscriptionCommand,
  CreateTopicCommand,
  FetchedOffset,
  FetchOffsetsCommand,
  GroupDetails,
  GroupFilter,
  GroupSummary,
  HeartbeatCommand,
  HeartbeatOutcome,
  JoinGroupCommand,
  JoinGroupOutcome,
  MemberDetails,
  Page,
  PageRequest,
  PublishCommand,
  PublishedRecords,
  PullCommand,
  PullOutcome,
  ReadMessagesCommand,
  ReadMessagesOutcome,
  ResetOffset,
  ResetOffsetsCommand,
  StoredRebalance,
  SubscribeCommand,
  SubscriptionDetails,
  SubscriptionWithCursors,
  SyncGroupCommand,
  SyncGroupOutcome,
  TopicDetails,
  TopicExtent,
  UpdateTopicCommand,
} from './broker.ts';
import { fetchedPage } from './fetch-offsets.ts';
import { pageOf } from './page.ts';
import { readMessages } from './read-messages.ts';
import { withAges } from './record-ages.ts';
import type { Topics } from './topics.ts';

/** The machines that an active broker is made of, opened. */
export interface BrokerParts {
  readonly log: Log;
  readonly publisher: Publisher;
  readonly delivery: Delivery;
  readonly topics: Topics;
  readonly codec: BatchCodec;
  readonly clock: Clock;
}

/** The broker's calls while it owns the database: each goes to the machine that answers it. */
export class ActiveBroker implements Broker {
  readonly #log: Log;
  readonly #publisher: Publisher;
  readonly #delivery: Delivery;
  readonly #topics: Topics;
  readonly #codec: BatchCodec;
  readonly #clock: Clock;

  constructor(parts: BrokerParts) {
    this.#log = parts.log;
    this.#publisher = parts.publisher;
    this.#delivery = parts.delivery;
    this.#topics = parts.topics;
    this.#codec = parts.codec;
    this.#clock = parts.clock;
  }

  publish(_caller: Caller, command: PublishCommand): Promise<PublishedRecords | null> {
    return this.#publisher.publish(command);
  }

  async subscribe(caller: Caller, command: SubscribeCommand, sink: EventSink): Promise<MemberStream> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.subscribe(caller.host, command, sink);
  }

  async pull(caller: Caller, command: PullCommand): Promise<PullOutcome> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.pull(caller.host, command);
  }

  async ack(_caller: Caller, command: AckCommand): Promise<AckOutcome[]> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.ack(command);
  }

  async heartbeat(_caller: Caller, command: HeartbeatCommand): Promise<HeartbeatOutcome> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.heartbeat(command);
  }

  async joinGroup(caller: Caller, command: JoinGroupCommand): Promise<JoinGroupOutcome> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.join(caller.host, command);
  }

  async syncGroup(_caller: Caller, command: SyncGroupCommand): Promise<SyncGroupOutcome> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.sync(command);
  }

  async leaveGroup(_caller: Caller, command: { readonly group: string; readonly memberId: MemberId }): Promise<void> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.leave(command.group, command.memberId);
  }

  async getGroup(_caller: Caller, name: string): Promise<GroupDetails> {
    await this.#delivery.loaded(name);
    const details = this.#delivery.describe(name);
    return { ...details, partitions: await withAges(details.partitions, this.#log, this.#clock) };
  }

  async listGroups(_caller: Caller, filter: GroupFilter, page: PageRequest): Promise<Page<GroupSummary>> {
    await this.#delivery.allLoaded();
    const { items, nextToken } = pageOf(this.#delivery.names(filter), (name) => name, page);
    // Only those of the page: the lag of a group is a sum over its partitions.
    return { items: items.map((name) => this.#delivery.summary(name)), nextToken };
  }

  async listMembers(
    _caller: Caller,
    group: string,
    page: PageRequest,
  ): Promise<Page<MemberDetails> & { readonly generation: number }> {
    await this.#delivery.loaded(group);
    const { generation, members } = this.#delivery.members(group);
    return { ...pageOf(members, ({ memberId }): string => memberId, page), generation };
  }

  async listRebalances(_caller: Caller, group: string): Promise<StoredRebalance[]> {
    await this.#delivery.loaded(group);
    return this.#delivery.rebalances(group);
  }

  async deleteGroup(_caller: Caller, name: string): Promise<void> {
    await this.#delivery.loaded(name);
    return this.#delivery.deleteGroup(name);
  }

  async commitOffsets(_caller: Caller, command: CommitOffsetsCommand): Promise<CommittedOffset[]> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.offsets.commit(command);
  }

  async fetchOffsets(_caller: Caller, { group, partitions, page }: FetchOffsetsCommand): Promise<Page<FetchedOffset>> {
    await this.#delivery.loaded(group);
    return fetchedPage(await this.#delivery.offsets.fetch(group, partitions), partitions.length > 0, page);
  }

  async resetOffsets(_caller: Caller, command: ResetOffsetsCommand): Promise<ResetOffset[]> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.offsets.reset(command);
  }

  createTopic(_caller: Caller, command: CreateTopicCommand): Promise<TopicDetails> {
    return this.#topics.create(command);
  }

  async getTopic(_caller: Caller, name: string): Promise<TopicExtent> {
    return this.#topics.get(name);
  }

  updateTopic(_caller: Caller, command: UpdateTopicCommand): Promise<TopicDetails> {
    return this.#topics.update(command);
  }

  addPartitions(_caller: Caller, command: AddPartitionsCommand): Promise<TopicExtent> {
    return this.#topics.addPartitions(command);
  }

  async listTopics(_caller: Caller, page: PageRequest): Promise<Page<TopicDetails>> {
    return pageOf(this.#topics.list(), (topic) => topic.name, page);
  }

  deleteTopic(_caller: Caller, name: string): Promise<void> {
    return this.#topics.delete(name);
  }

  async createSubscription(_caller: Caller, command: CreateSubscriptionCommand): Promise<SubscriptionWithCursors> {
    await this.#delivery.loaded(command.group);
    return this.#delivery.createSubscription(command);
  }

  async getSubscription(_caller: Caller, group: string, topic: string): Promise<SubscriptionWithCursors> {
    await this.#delivery.loaded(group);
    const found = this.#delivery.getSubscription(group, topic);
    return { ...found, partitions: await withAges(found.partitions, this.#log, this.#clock) };
  }

  async listSubscriptions(
    _caller: Caller,
    filter: { readonly group: string | null; readonly topic: string | null },
    page: PageRequest,
  ): Promise<Page<SubscriptionDetails>> {
    await this.#delivery.allLoaded();
    return pageOf(this.#delivery.listSubscriptions(filter), (subscription) => subscription.id, page);
  }

  async cancelSubscription(_caller: Caller, group: string, topic: string): Promise<SubscriptionDetails> {
    await this.#delivery.loaded(group);
    return this.#delivery.cancelSubscription(group, topic);
  }

  async readMessages(_caller: Caller, command: ReadMessagesCommand): Promise<ReadMessagesOutcome> {
    const topic = this.#topics.row(command.topic);
    const log = demandLog(topic.name, this.#log.partitionLogs(topic.id), this.#log.lanes(topic.id), command);
    return readMessages(command, log, this.#codec);
  }
}
