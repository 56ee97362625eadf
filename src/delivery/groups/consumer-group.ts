import {
  Group,
  type MemberId,
  type MemberRow,
  type PartitionRef,
  type RemovalReason,
  type TaskRoom,
} from '../../coordinator/group.ts';
import type { MovingRecords } from '../../commit/settlements.ts';
import type { OffsetRuns } from '../../consumption/partitioned/cursor.ts';
import { Credit } from '../../credit/credit.ts';
import { groupDeleted, subscriptionCancelled } from '../../errors/rejections/groups.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { assignorFailed, memberFenced, replaced, slowReader } from '../../errors/rejections/members.ts';
import { limits } from '../../limits/limits.ts';
import type { PartitionLog } from '../../log/partition-log.ts';
import { Mutex } from '../../time/mutex.ts';
import type { MemberAssignment } from '../ports/membership.ts';
import type { Feed, Seat } from '../dispatch/feed.ts';
import type { GroupContext } from './context.ts';
import { GroupDriver } from './driver.ts';
import { Member } from '../dispatch/member.ts';
import { notOwner, refuseIfUnsure, unsureOwner } from '../dispatch/not-owner.ts';
import { GroupEffects } from './effects.ts';
import { GroupModel } from './model.ts';
import type { Reply } from '../ports/reply.ts';
import type { EventSink, StreamEnd } from '../ports/session.ts';
import { StreamSession } from '../dispatch/stream-session.ts';
import type { LoadedGroup, SubscriptionRow } from '../ports/store.ts';
import { refuseCancelled } from '../subscriptions/cancelled.ts';
import { ActiveSubscription, type ClaimedLog, type SubscribedTopic } from '../subscriptions/subscription.ts';

type LoadedIdentity = Pick<LoadedGroup, 'id' | 'name' | 'snapshot'>;

/** A signal that is never aborted. */
const never = new AbortController().signal;

interface RequestedStream {
  readonly recordsMax: number;
  readonly bytesMax: number;
  readonly autoAck: boolean;
  readonly assignmentChanges: boolean;
}

/** A consumer group in memory, for the calls: inputs to its coordinator, streams, and acks. */
export class ConsumerGroup extends GroupModel {
  readonly #driver: GroupDriver;
  readonly #effects: GroupEffects;
  readonly #context: GroupContext;
  readonly #withholding = new Mutex();

  static load(loaded: LoadedIdentity, context: GroupContext): ConsumerGroup {
    const { assignors, clock } = context;
    const task: TaskRoom = { bytesMax: limits.pageBytesMax, bytesOf: (row) => group.assignableBytes(row) };
    const rules = { assignors, gatherMs: limits.rebalanceGatherMs, task };
    const group: ConsumerGroup = new ConsumerGroup(loaded, new Group(loaded.snapshot, clock.nowMs(), rules), context);
    return group;
  }

  private constructor(loaded: LoadedIdentity, machine: Group, context: GroupContext) {
    super(loaded, machine, context.kept);
    this.#context = context;
    this.#effects = new GroupEffects(this, context);
    this.#driver = new GroupDriver(this, machine, this.#effects, context);
    for (const { memberId } of loaded.snapshot.members) {
      this.members.set(memberId, new Member(memberId));
      this.recountMember(memberId);
    }
  }

  /** Adds a subscription with its cursors. Its members get the partitions with the next step. */
  addSubscription(
    row: SubscriptionRow,
    topic: SubscribedTopic,
    claimed: readonly ClaimedLog[],
    isNew: boolean,
  ): ActiveSubscription {
    const subscription = new ActiveSubscription(row, { groupName: this.name, ...topic }, claimed, this.#context);
    this.keep(subscription);
    this.#context.lives.added(subscription, isNew);
    this.#driver.add({ type: 'topic', topicId: row.topicId, partitions: subscription.partitions });
    return subscription;
  }

  /** Adds the new logs of a topic. The members get them by a rebalance. */
  async growTopic(topicId: number, logs: readonly PartitionLog[]): Promise<void> {
    const subscription = this.subscriptions.get(topicId);
    if (subscription?.grow(logs) !== true) return;
    await this.#driver.feed({ type: 'topic', topicId, partitions: subscription.partitions });
  }

  /**
   * Gives the loaded members their partitions again. The first step removes members whose stream
   * has died with the broker before.
   */
  async resume(assigned: LoadedGroup['snapshot']['assignments']): Promise<void> {
    for (const row of assigned) {
      const member = this.members.get(row.memberId);
      for (const feed of this.lanesOf(row)) member?.hold(feed);
    }
    await this.#driver.feed({ type: 'tick' });
  }

  async removeSubscription(topicId: number): Promise<void> {
    const subscription = this.subscriptions.get(topicId);
    if (subscription === undefined) return;
    this.drop(subscription);
    this.#context.lives.removed(subscription);
    for (const log of subscription.logs) {
      this.#context.rounds.forget(log);
      this.#effects.takeBack(log, false);
    }
    subscription.close();
    await this.#driver.feed({ type: 'topic', topicId, partitions: 0 });
  }

  /** Ends the readers of the members of a topic whose subscription was cancelled. */
  subscriptionCancelled(topicId: number, topicName: string): void {
    for (const member of this.members.values()) {
      if (this.row(member.id)?.topicIds.includes(topicId) !== true) continue;
      for (const reader of [...member.readers]) {
        reader.end(subscriptionCancelled({ group: this.name, topic: topicName }));
        if (reader instanceof StreamSession) this.#streamEnded(member, reader, 'ENDED');
      }
    }
  }

  /** @throws Rejection MEMBER_FENCED if the group does not have the member */
  member(memberId: MemberId): Member {
    const member = this.members.get(memberId);
    if (member !== undefined && this.row(memberId) !== undefined) return member;
    refuseIfUnsure(this.#context);
    this.#context.counts.fencedCalls++;
    throw memberFenced({ memberId });
  }

  /**
   * Joins or changes a member. Resolves when the assignment is durable and in force.
   * @param reply the reply of a call that names no member; null if the call names one. Such a call
   * is rejected if its member has gone meanwhile.
   * @throws Rejection MEMBER_FENCED, INSTANCE_FENCED, INSTANCE_ID_IN_USE, INCONSISTENT_PROTOCOLS,
   * ASSIGNOR_FAILED, GROUP_DELETED
   */
  async join(row: Omit<MemberRow, 'joinSeq'>, reply: Reply | null = null): Promise<Member> {
    this.#makeRoom(row.memberId);
    const known = this.members.get(row.memberId);
    const member = known ?? new Member(row.memberId);
    const nowMs = this.#context.clock.nowMs();
    member.heard(nowMs);
    this.members.set(row.memberId, member);
    if (reply !== null && !this.#isKnownInstance(row.instanceId)) member.reply = reply;
    const joining = this.#driver.feed({ type: 'join', member: row, returning: reply === null });
    member.reply?.whenLost(() => void this.leave(member.id, 'LEFT'));
    try {
      await joining;
      this.#context.writer.heard(this);
    } catch (error) {
      if (known === undefined && this.row(row.memberId) === undefined) this.forgetMember(row.memberId, nowMs);
      throw error;
    } finally {
      this.recountMember(row.memberId);
    }
    return member;
  }

  /** Whether a client that knows its member id uses the instance. A lost join must not end that. */
  #isKnownInstance(instanceId: string | null): boolean {
    const row = instanceId === null ? undefined : this.rowOfInstance(instanceId);
    return row !== undefined && (this.members.get(row.memberId)?.isIntroduced ?? true);
  }

  /** Takes the plan of the leader. @throws Rejection NOT_LEADER, PLAN_STALE, ASSIGNOR_FAILED */
  async assign(memberId: MemberId, generation: number, plan: readonly MemberAssignment[]): Promise<void> {
    const planned = plan.flatMap((one) => this.refs(one.partitions).map((ref) => ({ ...ref, memberId: one.memberId })));
    const named = plan.reduce((sum, { partitions }) => sum + partitions.length, 0);
    if (planned.length < named) {
      throw assignorFailed('the plan names a topic that the group is not subscribed to');
    }
    await this.#driver.feed({ type: 'assign', memberId, generation, plan: planned });
  }

  /**
   * Runs `work` while no member has partitions of the topics: revokes them before, and assigns them
   * again afterwards. Only one call runs at a time, because the end of the first would assign
   * partitions that the second still needs.
   */
  withheld<T>(topicIds: readonly number[], work: () => Promise<T>): Promise<T> {
    const hold = (isHeld: boolean): Promise<unknown> =>
      Promise.all(topicIds.map((topicId) => this.#driver.feed({ type: 'hold', topicId, held: isHeld })));
    // One that ends meanwhile counts as free: members may have partitions of the next one.
    const held = topicIds.flatMap((topicId) => this.subscriptions.get(topicId) ?? []);
    return this.#withholding.take(async () => {
      try {
        await hold(true);
        const free = await this.watch(() => held.every(({ isFree }) => isFree), limits.rebalanceTimeoutMsMax, never);
        if (!free) throw new Error('a partition is held for longer than any rebalance timeout');
        return await work();
      } finally {
        await hold(false);
      }
    });
  }

  /** Ends the group, so that no member can join any more. @throws Rejection GROUP_NOT_EMPTY */
  end(): Promise<void> {
    return this.#driver.feed({ type: 'delete' });
  }

  leave(memberId: MemberId, reason: RemovalReason): Promise<void> {
    return this.#driver.feed({ type: 'leave', memberId, reason });
  }

  /**
   * Finds the member of a call that is a sign of life and of progress. @throws Rejection
   * MEMBER_FENCED
   */
  atWork(memberId: MemberId): Member {
    const member = this.member(memberId);
    this.worked(member);
    this.alive(memberId);
    return member;
  }

  /** Takes a sign of life. Only the first one of the group that this broker gets costs a write. */
  alive(memberId: MemberId, revoked: readonly PartitionRef[] = []): void {
    if (this.heard(memberId, this.#context.clock.nowMs())) this.#context.writer.heard(this);
    if (revoked.length === 0 && this.row(memberId)?.sessionTimeoutMs === null) return;
    this.#driver.tellAlive(memberId, revoked);
  }

  /**
   * Takes a sign of progress. The member keeps its partitions for another max poll interval, and a
   * stalled member gets partitions again.
   */
  worked(member: Member): void {
    member.worked(this.#context.clock.nowMs());
    member.stalled = false;
    // Asks the coordinator, whose decision that the member is stalled may not be carried out yet.
    if (this.isStalled(member.id)) {
      this.#driver.tell({ type: 'progress', memberId: member.id, busySinceMs: null });
    }
  }

  /**
   * Opens the stream of the member. A stream that is open already ends with REPLACED.
   * @throws Rejection SUBSCRIPTION_CANCELLED if that came after the call had found the member.
   */
  openStream(member: Member, sink: EventSink, options: RequestedStream): StreamSession {
    this.#refuseReader(member);
    const { clock, slowReaders, deliveryRoom, mayDeliver, rounds } = this.#context;
    for (const reader of [...member.readers].filter((one) => one instanceof StreamSession)) {
      member.readers.delete(reader);
      reader.end(replaced(member.id));
    }
    member.beginStream(new Credit(options.recordsMax, options.bytesMax));
    const session: StreamSession = new StreamSession({
      member,
      sink,
      autoAck: options.autoAck,
      assignmentChanges: options.assignmentChanges,
      handOut: this.#context,
      clock,
      slowReaders,
      deliveryRoom,
      mayDeliver,
      onUnsure: () => {
        session.end(unsureOwner());
        this.#streamEnded(member, session, 'ENDED');
      },
      onSlow: () => {
        session.end(slowReader({ slowReaderMs: slowReaders.slowReaderMs }));
        this.#streamEnded(member, session, 'ENDED');
      },
      generation: () => this.generation,
      joined: () => this.joined(member.id),
      ackNow: ({ seat: { feed }, first, last }) => {
        const freed = feed.cursor.ackRuns([first, last]);
        rounds.mark(feed);
        this.settle(feed, freed.records, freed.bytes);
      },
    });
    member.readerCame(session);
    session.begin();
    return session;
  }

  /** Without its stream a member without a session timeout has nothing to live by. */
  #refuseReader(member: Member): void {
    try {
      refuseCancelled(this, this.#context, member.id);
    } catch (error) {
      if (this.row(member.id)?.sessionTimeoutMs === null) void this.leave(member.id, 'LEFT');
      throw error;
    }
  }

  /** Stops the session, whose transport is closed. */
  streamClosed(member: Member, session: StreamSession, reason: StreamEnd): void {
    session.stop();
    this.#streamEnded(member, session, reason);
  }

  /**
   * Ends a member without a session timeout together with its stream. Only after a lost connection
   * may a record in flight have killed the client.
   */
  #streamEnded(member: Member, session: StreamSession, reason: StreamEnd): void {
    if (!member.streamGone(session, reason, this.#context.clock.nowMs())) return;
    const row = this.row(member.id);
    if (row === undefined || row.sessionTimeoutMs !== null) return;
    void this.leave(member.id, reason === 'CONNECTION_LOST' ? 'STREAM_LOST' : 'LEFT');
  }

  /** Returns the credit of records that are no longer in flight, which may unblock any log. */
  settle(log: Feed, records: number, bytes: number): void {
    log.seat?.member.regain(records, bytes);
    this.#freed(log);
  }

  /** Makes records MOVING, all of which must be in flight, because a settlement completes them. */
  move(log: Feed, runs: OffsetRuns): MovingRecords {
    return this.#context.moves.begin(log, runs, () => {
      this.#freed(log);
    });
  }

  /** Does what an end of a flight may allow: a move, the end of an anonymous member, a delivery. */
  #freed({ seat, log }: Feed): void {
    if (seat === null) return;
    if (seat.revoking) this.#lookDrained(log.address);
    const member = this.members.get(seat.member.id);
    if (member?.anonymous === true && this.members.size > 1) this.#dismiss(member);
    seat.wake();
  }

  /** Lets a revoked partition move once none of its records is in flight. */
  #lookDrained({ topicId, partition }: PartitionRef): void {
    const ref = { topicId, partition };
    if (this.isDrained(ref)) this.#driver.tell({ type: 'drained', partition: ref });
  }

  /**
   * Watches the leases of the log. Records whose lease has expired come again as the next attempt.
   */
  watchLeases(seat: Seat): void {
    const { clock, rounds, lostAttempts } = this.#context;
    const { feed } = seat;
    seat.watchLeases(clock, () => {
      const freed = feed.cursor.expireLeases(clock.nowMs(), lostAttempts.mayCount(feed.cursor));
      if (freed.records > 0) {
        rounds.mark(feed);
        this.settle(feed, freed.records, freed.bytes);
      }
      if (feed.cursor.inFlightRecords > 0) this.watchLeases(seat);
    });
  }

  /**
   * Waits until `ready` returns true, the time is over, or the signal aborts. @returns its result.
   */
  watch(ready: () => boolean, waitMs: number, signal: AbortSignal): Promise<boolean> {
    return this.#driver.watch(ready, waitMs, signal);
  }

  /** Resolves when the effects of all inputs so far are durable and carried out. */
  settled(): Promise<void> {
    return this.#driver.feed({ type: 'tick' });
  }

  /** Whether a rebalance is carried out on some members, and on others not yet. */
  get isMoving(): boolean {
    return this.#driver.isMoving;
  }

  /** Stops everything of the group in this process. `error` is null if the group is deleted. */
  stop(error: Rejection | null): void {
    this.#driver.stop(error === null ? groupDeleted('the group is deleted') : notOwner());
    for (const member of this.members.values()) this.#effects.endReaders(member, error);
    for (const subscription of this.subscriptions.values()) {
      if (error === null) this.#context.lives.removed(subscription);
      else this.#context.lives.forgotten(subscription);
    }
    this.giveBack();
  }

  /** Dismisses anonymous members, which make room for the member that joins. */
  #makeRoom(joining: MemberId): void {
    for (const member of this.members.values()) if (member.anonymous && member.id !== joining) this.#dismiss(member);
  }

  /**
   * Lets an anonymous member leave that neither reads nor has records in flight. It is called only
   * when others want its partitions, because the client may come back with the member id.
   */
  #dismiss(member: Member): void {
    if (member.readers.size > 0 || member.seats.some(({ feed }) => feed.cursor.inFlightRecords > 0)) return;
    void this.leave(member.id, 'LEFT');
  }
}
