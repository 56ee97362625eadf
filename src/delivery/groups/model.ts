import type {
  AssignorName,
  Group,
  GroupState,
  Holder,
  MemberId,
  MemberRow,
  PartitionRef,
} from '../../coordinator/group.ts';
import { limits } from '../../limits/limits.ts';
import { SortedItems } from '../../log/sorted-items.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { Member } from '../dispatch/member.ts';
import { StreamSession } from '../dispatch/stream-session.ts';
import type { NamedLog } from '../ports/offsets.ts';
import type { StreamEvent, TopicPartition } from '../ports/session.ts';
import type { LoadedGroup } from '../ports/store.ts';
import { Hold } from '../../account/hold.ts';
import type { Kept } from '../kept/kept.ts';
import { KeptMembers } from '../kept/kept-members.ts';
import { groupBytes } from '../kept/sizes.ts';
import type { ActiveSubscription } from '../subscriptions/subscription.ts';

/**
 * The state of one group for its readers: members, subscriptions, and the coordinator's decisions.
 */
export class GroupModel {
  readonly id: number;
  readonly name: string;
  readonly members = new Map<MemberId, Member>();
  /** By topic id. */
  readonly subscriptions = new Map<number, ActiveSubscription>();
  readonly #byTopicName = new Map<string, ActiveSubscription>();
  readonly #sorted = new SortedItems(
    () => this.subscriptions.values(),
    (a, b) => (a.topicName < b.topicName ? -1 : 1),
  );
  readonly #machine: Group;
  readonly #hold: Hold;
  readonly #keptMembers: KeptMembers;
  #generation: number;
  /** Whether the database knows, or will know, that this broker has heard members of the group. */
  isHeardNoted = false;
  /** The last sign of life of the members that have gone. */
  #seenMs = -Infinity;

  constructor(loaded: Pick<LoadedGroup, 'id' | 'name' | 'snapshot'>, machine: Group, kept: Kept) {
    this.id = loaded.id;
    this.name = loaded.name;
    this.#machine = machine;
    this.#generation = loaded.snapshot.generation;
    this.#hold = new Hold(kept.groups, 0);
    this.#hold.force(groupBytes(loaded.name));
    this.#keptMembers = new KeptMembers(kept);
  }

  /**
   * The generation that clients see: that of the last durable step. The coordinator may be ahead of
   * it by one. If a client saw that one and the write failed, a successor would use the same number
   * for another assignment.
   */
  get generation(): number {
    return this.#generation;
  }

  /** The generation of the last step, durable or not. */
  get decidedGeneration(): number {
    return this.#machine.generation;
  }

  /** The driver calls it when it has made a step durable. */
  persisted(generation: number): void {
    this.#generation = generation;
  }

  get phase(): GroupState {
    return this.#machine.state();
  }

  /** Whether the coordinator gathers changes for the next rebalance. */
  get preparing(): boolean {
    return this.#machine.preparing;
  }

  get assignor(): AssignorName {
    return this.#machine.assignor;
  }

  /** The member that assigns the partitions; null if the broker does. */
  get leaderId(): MemberId | null {
    return this.#machine.leader;
  }

  /** Whether the leader still has to send the plan of this generation. */
  get awaitsPlan(): boolean {
    return this.#machine.awaitsPlan;
  }

  get memberCount(): number {
    return this.#machine.memberCount;
  }

  /** The members of the coordinator, in the order of their joins. */
  rows(): MemberRow[] {
    return this.#machine.members();
  }

  row(memberId: MemberId): MemberRow | undefined {
    return this.#machine.member(memberId);
  }

  /** The most bytes of the member in an assignment task, in protobuf or JSON. */
  assignableBytes({ memberId, clientId, instanceId, topicIds, metadata }: Omit<MemberRow, 'joinSeq'>): number {
    const names = topicIds.map((topicId) => this.subscriptions.get(topicId)?.topicName ?? '');
    const texts = [memberId, clientId, instanceId ?? '', ...names].reduce((sum, text) => sum + text.length + 3, 0);
    return 96 + texts + Math.ceil(metadata.length / 3) * 4;
  }

  /** The member that has joined with the instance id. */
  rowOfInstance(instanceId: string): MemberRow | undefined {
    return this.#machine.instance(instanceId);
  }

  isStalled(memberId: MemberId): boolean {
    return this.#machine.isStalled(memberId);
  }

  /** The member that has the partition, and since which generation. */
  holder(ref: PartitionRef): Holder | undefined {
    return this.#machine.holder(ref);
  }

  /** Counts the member as the coordinator has it now, if it has it. */
  recountMember(memberId: MemberId): void {
    const row = this.row(memberId);
    if (row !== undefined && this.members.has(memberId)) this.#keptMembers.count(row);
  }

  /**
   * The time since the last sign of life of any member, also of one that has gone; null if this
   * broker has got none.
   */
  heardAgoMs(nowMs: number): number | null {
    let seenMs = this.#seenMs;
    for (const member of this.members.values()) seenMs = Math.max(seenMs, member.seenMs(nowMs));
    return seenMs === -Infinity ? null : Math.max(0, nowMs - seenMs);
  }

  /** Takes a sign of life. @returns whether the group has the member. */
  heard(memberId: MemberId, nowMs: number): boolean {
    const member = this.members.get(memberId);
    member?.heard(nowMs);
    return member !== undefined;
  }

  /** Removes a member that is gone. */
  forgetMember(memberId: MemberId, nowMs: number): void {
    this.#seenMs = Math.max(this.#seenMs, this.members.get(memberId)?.seenMs(nowMs) ?? -Infinity);
    this.members.delete(memberId);
    this.#keptMembers.forget(memberId);
  }

  subscriptionTo(topicName: string): ActiveSubscription | undefined {
    return this.#byTopicName.get(topicName);
  }

  /** Ordered by the name of the topic. */
  sortedSubscriptions(): readonly ActiveSubscription[] {
    return this.#sorted.all;
  }

  /** The log that an entry of a request names, if the group has it. */
  named({ topic, partition, lane }: NamedLog): Feed | 'LANE_REQUIRED' | undefined {
    return this.subscriptionTo(topic)?.find({ partition, lane });
  }

  /** The logs of all lanes of a partition; empty if the group does not have the partition. */
  lanesOf({ topicId, partition }: PartitionRef): readonly Feed[] {
    return this.subscriptions.get(topicId)?.lanesOf(partition) ?? [];
  }

  /** Whether no lane of the partition has records in flight, so that a revoked one may move. */
  isDrained(ref: PartitionRef): boolean {
    return this.lanesOf(ref).every(({ cursor }) => cursor.inFlightRecords === 0);
  }

  refs(partitions: readonly TopicPartition[]): PartitionRef[] {
    return partitions.flatMap(({ topic, partition }) => {
      const subscription = this.subscriptionTo(topic);
      return subscription === undefined ? [] : [{ topicId: subscription.row.topicId, partition }];
    });
  }

  /**
   * The number of records that members with an open reader have in flight. A drain waits for them.
   */
  inFlightToStreams(): number {
    let records = 0;
    for (const member of this.members.values()) if (member.readers.size > 0) records += member.credit.records;
    return records;
  }

  /** Gives back what the account counts for the group. Idempotent. */
  protected giveBack(): void {
    for (const subscription of this.subscriptions.values()) subscription.close();
    this.#keptMembers.forgetAll();
    this.#hold.release();
  }

  protected keep(subscription: ActiveSubscription): void {
    this.subscriptions.set(subscription.row.topicId, subscription);
    this.#byTopicName.set(subscription.topicName, subscription);
    this.#sorted.changed();
  }

  protected drop(subscription: ActiveSubscription): void {
    this.subscriptions.delete(subscription.row.topicId);
    this.#sorted.changed();
    // Another topic may have this name by now.
    const { topicName } = subscription;
    if (this.#byTopicName.get(topicName) === subscription) this.#byTopicName.delete(topicName);
  }

  /** The first event of a stream of the member. */
  joined(memberId: MemberId): StreamEvent {
    const row = this.row(memberId);
    const sessionTimeoutMs = row?.sessionTimeoutMs ?? null;
    return {
      type: 'joined',
      memberId,
      generation: this.generation,
      heartbeatIntervalMs: sessionTimeoutMs === null ? null : limits.heartbeatIntervalMs,
      sessionTimeoutMs,
      maxPollIntervalMs: row?.maxPollIntervalMs ?? limits.maxPollIntervalMsDefault,
    };
  }

  tellDraining(deadlineAtMs: number): void {
    for (const member of this.members.values()) {
      for (const reader of member.readers) {
        if (reader instanceof StreamSession) reader.drain(deadlineAtMs);
        else reader.end(null);
      }
    }
  }
}
