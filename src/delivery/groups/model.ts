import type {
  AssignorName,
  Group,
  GroupState,
  Holder,
  MemberId,
  MemberRow,
  PartitionRef,
} from '../../coordinator/group.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { Member } from '../dispatch/member.ts';
import type { NamedLog } from '../ports/offsets.ts';
import type { TopicPartition } from '../ports/session.ts';
import type { LoadedGroup } from '../ports/store.ts';
import type { ActiveSubscription } from './subscription.ts';

/** What is known of one group at work: its members, its subscriptions, and what its coordinator has decided. Everybody reads it here. */
export class GroupModel {
  readonly id: number;
  readonly name: string;
  readonly members = new Map<MemberId, Member>();
  /** By topic id. */
  readonly subscriptions = new Map<number, ActiveSubscription>();
  readonly #byTopicName = new Map<string, ActiveSubscription>();
  readonly #machine: Group;
  #generation: number;

  constructor(loaded: Pick<LoadedGroup, 'id' | 'name' | 'snapshot'>, machine: Group) {
    this.id = loaded.id;
    this.name = loaded.name;
    this.#machine = machine;
    this.#generation = loaded.snapshot.generation;
  }

  /**
   * The generation that members are told: that of the last step which is durable. The coordinator may be
   * ahead of it by one; told to a member, that one would be used again, for another assignment, by a
   * successor that finds it was never written.
   */
  get generation(): number {
    return this.#generation;
  }

  /** That of the last step, durable or not. */
  get decidedGeneration(): number {
    return this.#machine.generation;
  }

  /** The driver has made a step durable. */
  persisted(generation: number): void {
    this.#generation = generation;
  }

  get phase(): GroupState {
    return this.#machine.state();
  }

  /** Changes were taken and wait for the rebalance that they belong into. */
  get preparing(): boolean {
    return this.#machine.preparing;
  }

  get assignor(): AssignorName {
    return this.#machine.assignor;
  }

  /** The member that gives out the partitions; null: the broker does. */
  get leaderId(): MemberId | null {
    return this.#machine.leader;
  }

  /** Whether the leader still has to say who gets what in this generation. */
  get awaitsPlan(): boolean {
    return this.#machine.awaitsPlan;
  }

  get memberCount(): number {
    return this.#machine.memberCount;
  }

  /** Its members as the coordinator knows them, in the order of joining. */
  rows(): MemberRow[] {
    return this.#machine.members();
  }

  row(memberId: MemberId): MemberRow | undefined {
    return this.#machine.member(memberId);
  }

  /** The member that has joined with the instance id. */
  rowOfInstance(instanceId: string): MemberRow | undefined {
    return this.#machine.instance(instanceId);
  }

  isStalled(memberId: MemberId): boolean {
    return this.#machine.isStalled(memberId);
  }

  /** Who has the partition, and since which generation. */
  holder(ref: PartitionRef): Holder | undefined {
    return this.#machine.holder(ref);
  }

  subscriptionTo(topicName: string): ActiveSubscription | undefined {
    return this.#byTopicName.get(topicName);
  }

  /** In the order of their topics' names. */
  sortedSubscriptions(): ActiveSubscription[] {
    return [...this.subscriptions.values()].sort((a, b) => (a.topicName < b.topicName ? -1 : 1));
  }

  /** The log that an entry of a request names; undefined: the group has none. */
  named({ topic, partition, lane }: NamedLog): Feed | 'LANE_REQUIRED' | undefined {
    return this.subscriptionTo(topic)?.find({ partition, lane });
  }

  /** All lanes of a partition; empty if the group has no such partition. */
  lanesOf({ topicId, partition }: PartitionRef): readonly Feed[] {
    return this.subscriptions.get(topicId)?.lanesOf(partition) ?? [];
  }

  /** Nothing of any lane of the partition is in flight: one that is asked back may go. */
  isDrained(ref: PartitionRef): boolean {
    return this.lanesOf(ref).every(({ cursor }) => cursor.inFlightRecords === 0);
  }

  refs(partitions: readonly TopicPartition[]): PartitionRef[] {
    return partitions.flatMap(({ topic, partition }) => {
      const subscription = this.subscriptionTo(topic);
      return subscription === undefined ? [] : [{ topicId: subscription.row.topicId, partition }];
    });
  }

  /** Records that open streams have in flight: the ones that a drain waits for. */
  inFlightToStreams(): number {
    let records = 0;
    for (const member of this.members.values()) if (member.readers.size > 0) records += member.credit.records;
    return records;
  }

  protected keep(subscription: ActiveSubscription): void {
    this.subscriptions.set(subscription.row.topicId, subscription);
    this.#byTopicName.set(subscription.topicName, subscription);
  }

  protected drop(subscription: ActiveSubscription): void {
    this.subscriptions.delete(subscription.row.topicId);
    // Under its name there may be another topic by now.
    const { topicName } = subscription;
    if (this.#byTopicName.get(topicName) === subscription) this.#byTopicName.delete(topicName);
  }
}
