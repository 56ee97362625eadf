import type { Group, MemberId, MemberRow, PartitionRef, RemovalReason } from '../../coordinator/group.ts';
import { Credit } from '../../credit/credit.ts';
import { Rejection } from '../../errors/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { PartitionLog } from '../../log/partition-log.ts';
import type { MemberAssignment, NamedLog } from '../ports/calls.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { GroupContext } from './context.ts';
import { Coordination } from './coordination.ts';
import { fenced } from './refusals.ts';
import { Member } from '../dispatch/member.ts';
import { refuseIfUnsure, unsureOwner } from '../dispatch/not-owner.ts';
import { Enactment } from './enactment.ts';
import type { Reply } from '../ports/reply.ts';
import { Turns } from './turns.ts';
import type { EventSink, StreamEnd, StreamEvent, TopicPartition } from '../ports/session.ts';
import type { Seat } from '../dispatch/seat.ts';
import { StreamSession } from '../dispatch/stream-session.ts';
import type { LoadedGroup, SubscriptionRow } from '../ports/store.ts';
import { ActiveSubscription, type ClaimedLog, type SubscribedTopic } from './subscription.ts';

/** Waits that nobody calls off. */
const never = new AbortController().signal;

/** What the client of a stream asks for. */
export interface StreamWishes {
  readonly recordsMax: number;
  readonly bytesMax: number;
  readonly autoAck: boolean;
  readonly assignmentChanges: boolean;
}

/**
 * One consumer group at work: feeds its coordinator, makes what that decides durable, and then carries it out on
 * members and cursors.
 */
export class ConsumerGroup {
  readonly id: number;
  readonly name: string;
  readonly members = new Map<MemberId, Member>();
  /** By topic id. */
  readonly subscriptions = new Map<number, ActiveSubscription>();
  readonly #byTopicName = new Map<string, ActiveSubscription>();
  readonly #coordination: Coordination;
  readonly #enactment: Enactment;
  readonly #context: GroupContext;
  /** Called after each bundle: what waits for a change of the assignment. */
  readonly #watchers = new Set<() => void>();
  readonly #withholding = new Turns();

  constructor(loaded: Pick<LoadedGroup, 'id' | 'name' | 'snapshot'>, context: GroupContext) {
    this.id = loaded.id;
    this.name = loaded.name;
    this.#context = context;
    this.#enactment = new Enactment({
      groupName: loaded.name,
      context,
      members: this.members,
      lanesOf: (ref) => this.lanesOf(ref),
      generation: () => this.generation,
      onDrained: (partition) => {
        this.#coordination.tell({ type: 'drained', partition });
      },
    });
    this.#coordination = new Coordination({
      groupId: loaded.id,
      snapshot: loaded.snapshot,
      context,
      carryOut: (effects) => {
        for (const effect of effects) this.#enactment.carryOut(effect);
        for (const look of [...this.#watchers]) look();
      },
      busySinceMs: (memberId) => this.members.get(memberId)?.busySinceMs(context.clock.nowMs()) ?? null,
    });
    for (const row of loaded.snapshot.members) this.members.set(row.memberId, new Member(row.memberId));
  }

  get machine(): Group {
    return this.#coordination.machine;
  }

  /** The one that members are told: durable. */
  get generation(): number {
    return this.#coordination.generation;
  }

  /** Adds a subscription with its cursors; members that want the topic get its partitions with the next bundle. */
  addSubscription(row: SubscriptionRow, topic: SubscribedTopic, claimed: readonly ClaimedLog[]): ActiveSubscription {
    const subscription = new ActiveSubscription(row, topic, claimed, this.#context);
    this.subscriptions.set(row.topicId, subscription);
    this.#byTopicName.set(topic.name, subscription);
    this.#coordination.add({ type: 'topic', topicId: row.topicId, partitions: subscription.partitions });
    return subscription;
  }

  /** The topic has grown to these logs: members that want it get the new ones by the ordinary rebalance. */
  async growTopic(topicId: number, logs: readonly PartitionLog[]): Promise<void> {
    const subscription = this.subscriptions.get(topicId);
    if (subscription?.grow(logs) !== true) return;
    await this.#coordination.feed({ type: 'topic', topicId, partitions: subscription.partitions });
  }

  /** After a load: partitions are with the members that held them; the first bundle removes those whose streams died. */
  async resume(assigned: LoadedGroup['snapshot']['assignments']): Promise<void> {
    for (const row of assigned) {
      const member = this.members.get(row.memberId);
      for (const feed of this.lanesOf(row)) member?.hold(feed);
    }
    await this.#coordination.feed({ type: 'tick' });
  }

  async removeSubscription(topicId: number): Promise<void> {
    const subscription = this.subscriptions.get(topicId);
    if (subscription === undefined) return;
    this.subscriptions.delete(topicId);
    // Under its name there may be another topic by now.
    const { topicName } = subscription;
    if (this.#byTopicName.get(topicName) === subscription) this.#byTopicName.delete(topicName);
    for (const log of subscription.logs) {
      this.#context.rounds.forget(log);
      this.#enactment.takeBack(log, false);
      log.close();
    }
    await this.#coordination.feed({ type: 'topic', topicId, partitions: 0 });
  }

  subscriptionTo(topicName: string): ActiveSubscription | undefined {
    return this.#byTopicName.get(topicName);
  }

  /** The log that an entry of a request names; undefined: the group has none. */
  named({ topic, partition, lane }: NamedLog): Feed | 'LANE_REQUIRED' | undefined {
    return this.subscriptionTo(topic)?.find({ partition, lane });
  }

  /** In the order of their topics' names. */
  sortedSubscriptions(): ActiveSubscription[] {
    return [...this.subscriptions.values()].sort((a, b) => (a.topicName < b.topicName ? -1 : 1));
  }

  /** All lanes of a partition; empty if the group has no such partition. */
  lanesOf({ topicId, partition }: PartitionRef): readonly Feed[] {
    return this.subscriptions.get(topicId)?.lanesOf(partition) ?? [];
  }

  /** The member, or MEMBER_FENCED if it is not (or no longer) one of this group. */
  member(memberId: MemberId): Member {
    const member = this.members.get(memberId);
    if (member !== undefined && this.machine.member(memberId) !== undefined) return member;
    refuseIfUnsure(this.#context);
    this.#context.counts.fencedCalls++;
    throw fenced(memberId);
  }

  /**
   * Joins, or changes a member. Resolves when the assignment is durable and in force. `reply`: of a call that names no member;
   * null: the call is that of a member, and is rejected if the member has gone meanwhile.
   * @throws Rejection MEMBER_FENCED, INSTANCE_FENCED, INSTANCE_ID_IN_USE, INCONSISTENT_PROTOCOLS, ASSIGNOR_FAILED, GROUP_DELETED
   */
  async join(row: Omit<MemberRow, 'joinSeq'>, reply: Reply | null = null): Promise<Member> {
    this.#makeRoom(row.memberId);
    const known = this.members.get(row.memberId);
    const member = known ?? new Member(row.memberId);
    member.heard(this.#context.clock.nowMs());
    this.members.set(row.memberId, member);
    if (reply !== null && !this.#isKnownInstance(row.instanceId)) member.reply = reply;
    const joining = this.#coordination.feed({ type: 'join', member: row, returning: reply === null });
    member.reply?.whenLost(() => void this.leave(member.id, 'LEFT'));
    try {
      await joining;
    } catch (error) {
      if (known === undefined && this.machine.member(row.memberId) === undefined) this.members.delete(row.memberId);
      throw error;
    }
    return member;
  }

  /** The instance belongs to a client that knows it is a member: a join that is given up does not end that. */
  #isKnownInstance(instanceId: string | null): boolean {
    const row = instanceId === null ? undefined : this.machine.instance(instanceId);
    return row !== undefined && (this.members.get(row.memberId)?.isIntroduced ?? true);
  }

  /** The leader's plan. @throws Rejection NOT_LEADER, PLAN_STALE, ASSIGNOR_FAILED */
  async assign(memberId: MemberId, generation: number, plan: readonly MemberAssignment[]): Promise<void> {
    const planned = plan.flatMap((one) => this.refs(one.partitions).map((ref) => ({ ...ref, memberId: one.memberId })));
    const named = plan.reduce((sum, { partitions }) => sum + partitions.length, 0);
    if (planned.length < named) {
      throw new Rejection('ASSIGNOR_FAILED', 'the plan names a topic that the group is not subscribed to');
    }
    await this.#coordination.feed({ type: 'assign', memberId, generation, plan: planned });
  }

  /**
   * Runs `work` while no member has partitions of the topics: they are asked back first, and given out again after it. One after the
   * other, since the first of two would give out what the second still needs.
   */
  withheld<T>(topicIds: readonly number[], work: () => Promise<T>): Promise<T> {
    const hold = (held: boolean): Promise<unknown> =>
      Promise.all(topicIds.map((topicId) => this.#coordination.feed({ type: 'hold', topicId, held })));
    const isFree = (topicId: number): boolean =>
      this.subscriptions.get(topicId)?.logs.every((log) => log.seat === null) ?? true;
    return this.#withholding.take(async () => {
      try {
        await hold(true);
        const free = await this.watch(() => topicIds.every(isFree), limits.rebalanceTimeoutMsMax, never);
        if (!free) throw new Error('a partition is held for longer than any rebalance timeout');
        return await work();
      } finally {
        await hold(false);
      }
    });
  }

  /** The group is to end: nobody joins it any more. @throws Rejection GROUP_NOT_EMPTY */
  end(): Promise<void> {
    return this.#coordination.feed({ type: 'delete' });
  }

  leave(memberId: MemberId, reason: RemovalReason): Promise<void> {
    return this.#coordination.feed({ type: 'leave', memberId, reason });
  }

  /** A sign of life. It changes nothing durable, so it costs no write. */
  alive(memberId: MemberId, revoked: readonly PartitionRef[] = []): void {
    this.members.get(memberId)?.heard(this.#context.clock.nowMs());
    if (revoked.length === 0 && this.machine.member(memberId)?.sessionTimeoutMs === null) return;
    this.#coordination.tell({ type: 'alive', memberId, revoked });
  }

  /** A sign of work: the member may keep what it has for another max poll interval, and one that was stalled gets something again. */
  worked(member: Member): void {
    member.worked(this.#context.clock.nowMs());
    member.stalled = false;
    // Asked of the machine: that it is stalled may be decided and not carried out yet.
    if (this.machine.isStalled(member.id)) {
      this.#coordination.tell({ type: 'progress', memberId: member.id, busySinceMs: null });
    }
  }

  /** Opens the member's stream; one that is open already ends with REPLACED. */
  openStream(member: Member, sink: EventSink, options: StreamWishes): StreamSession {
    const { clock, unsentBytesMax, mayDeliver, rounds } = this.#context;
    for (const reader of member.readers) if (reader instanceof StreamSession) this.#replace(member, reader);
    member.beginStream(new Credit(options.recordsMax, options.bytesMax));
    const session: StreamSession = new StreamSession({
      member,
      sink,
      autoAck: options.autoAck,
      assignmentChanges: options.assignmentChanges,
      handOut: this.#context,
      clock,
      unsentBytesMax,
      mayDeliver,
      onUnsure: () => {
        session.end(unsureOwner());
        this.streamClosed(member, session, 'ENDED');
      },
      generation: () => this.generation,
      ackNow: ({ seat: { feed }, first, last }) => {
        const freed = feed.cursor.ackRuns([first, last]);
        rounds.mark(feed);
        this.settle(feed, freed.records, freed.bytes);
      },
    });
    session.tell(this.#joined(member));
    member.readerCame(session);
    this.#enactment.tellAssigned(member);
    this.#enactment.tellRevoking(session, member.askedBack);
    session.wake();
    return session;
  }

  #joined({ id }: Member): StreamEvent {
    const row = this.machine.member(id);
    const sessionTimeoutMs = row?.sessionTimeoutMs ?? null;
    return {
      type: 'joined',
      memberId: id,
      generation: this.generation,
      heartbeatIntervalMs: sessionTimeoutMs === null ? null : limits.heartbeatIntervalMs,
      sessionTimeoutMs,
      maxPollIntervalMs: row?.maxPollIntervalMs ?? limits.maxPollIntervalMsDefault,
    };
  }

  #replace(member: Member, session: StreamSession): void {
    member.readers.delete(session);
    session.end(new Rejection('REPLACED', `another stream has resumed member "${member.id}"; this one has ended`));
  }

  /**
   * A stream is over: a member without a session timeout goes with it. Only a lost connection may mean
   * that the client has failed on what it had.
   */
  streamClosed(member: Member, session: StreamSession, reason: StreamEnd): void {
    session.stop();
    if (!member.streamGone(session, reason, this.#context.clock.nowMs())) return;
    const row = this.machine.member(member.id);
    if (row === undefined || row.sessionTimeoutMs !== null) return;
    void this.leave(member.id, reason === 'CONNECTION_LOST' ? 'STREAM_LOST' : 'LEFT');
  }

  /** Records of `log` are no longer in flight: their credit returns, which may let any log of the member go on. */
  settle(log: Feed, records: number, bytes: number): void {
    const { seat } = log;
    if (seat === null) return;
    const { member } = seat;
    member.regain(records, bytes);
    if (seat.revoking && log.cursor.inFlightRecords === 0) this.#enactment.lookDrained(log.log.address);
    if (member.anonymous && this.members.size > 1) this.#dismiss(member);
    seat.wake();
  }

  /** Records of the log were handed out with a lease: when the earliest runs out, they come again, as the next attempt. */
  watchLeases(seat: Seat): void {
    const { clock, rounds } = this.#context;
    const { feed } = seat;
    seat.watchLeases(clock, () => {
      const freed = feed.cursor.expireLeases(clock.nowMs());
      if (freed.records > 0) {
        rounds.mark(feed);
        this.settle(feed, freed.records, freed.bytes);
      }
      if (feed.cursor.inFlightRecords > 0) this.watchLeases(seat);
    });
  }

  /** Resolves when `ready` is true or the time is over; asked after each change of the group. */
  watch(ready: () => boolean, waitMs: number, signal: AbortSignal): Promise<boolean> {
    if (ready()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        this.#watchers.delete(look);
        cancel();
        signal.removeEventListener('abort', give);
        resolve(result);
      };
      const look = (): void => {
        if (ready()) finish(true);
      };
      const give = (): void => {
        finish(ready());
      };
      const cancel = this.#context.clock.after(waitMs, give);
      signal.addEventListener('abort', give, { once: true });
      this.#watchers.add(look);
    });
  }

  refs(partitions: readonly TopicPartition[]): PartitionRef[] {
    return partitions.flatMap(({ topic, partition }) => {
      const subscription = this.subscriptionTo(topic);
      return subscription === undefined ? [] : [{ topicId: subscription.row.topicId, partition }];
    });
  }

  /** Resolves when every input so far has had its effect. */
  settled(): Promise<void> {
    return this.#coordination.feed({ type: 'tick' });
  }

  tellDraining(deadlineAtMs: number): void {
    for (const member of this.members.values()) {
      for (const reader of member.readers) {
        if (reader instanceof StreamSession) reader.drain(deadlineAtMs);
        else reader.end(null);
      }
    }
  }

  /** Records that open streams have in flight: the ones that a drain waits for. */
  inFlightToStreams(): number {
    let records = 0;
    for (const member of this.members.values()) if (member.readers.size > 0) records += member.credit.records;
    return records;
  }

  /** Stops everything of the group in this process; nothing durable changes. */
  stop(error: Rejection | null): void {
    this.#coordination.stop();
    for (const member of this.members.values()) this.#enactment.endReaders(member, error);
    for (const subscription of this.subscriptions.values()) for (const log of subscription.logs) log.close();
  }

  /** Anonymous pull members make room for whoever joins. */
  #makeRoom(joining: MemberId): void {
    for (const member of this.members.values()) if (member.anonymous && member.id !== joining) this.#dismiss(member);
  }

  /**
   * A member that a Pull without a member id has made leaves once it holds nothing un-acked and others want its
   * partitions. As long as it is alone it may stay: its client may yet come back with the id that it was told.
   */
  #dismiss(member: Member): void {
    if (member.readers.size > 0 || member.seats.some(({ feed }) => feed.cursor.inFlightRecords > 0)) return;
    void this.leave(member.id, 'LEFT');
  }
}
