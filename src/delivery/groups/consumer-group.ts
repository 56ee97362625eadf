import {
  Group,
  type MemberId,
  type MemberRow,
  type PartitionRef,
  type RemovalReason,
} from '../../coordinator/group.ts';
import type { MovingRecords } from '../../commit/settlements.ts';
import type { OffsetRuns } from '../../consumption/partitioned/cursor.ts';
import { Credit } from '../../credit/credit.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { assignorFailed, memberFenced, replaced } from '../../errors/rejections/members.ts';
import { limits } from '../../limits/limits.ts';
import type { PartitionLog } from '../../log/partition-log.ts';
import { Mutex } from '../../time/mutex.ts';
import type { MemberAssignment } from '../ports/membership.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { GroupContext } from './context.ts';
import { GroupDriver } from './driver.ts';
import { Member } from '../dispatch/member.ts';
import { refuseIfUnsure, unsureOwner } from '../dispatch/not-owner.ts';
import { GroupEffects } from './effects.ts';
import { GroupModel } from './model.ts';
import type { Reply } from '../ports/reply.ts';
import type { EventSink, StreamEnd, StreamEvent } from '../ports/session.ts';
import type { Seat } from '../dispatch/seat.ts';
import { StreamSession } from '../dispatch/stream-session.ts';
import type { LoadedGroup, SubscriptionRow } from '../ports/store.ts';
import { ActiveSubscription, type ClaimedLog, type SubscribedTopic } from './subscription.ts';

type LoadedIdentity = Pick<LoadedGroup, 'id' | 'name' | 'snapshot'>;

/** Waits that nobody calls off. */
const never = new AbortController().signal;

/** What the client of a stream asks for. */
interface StreamWishes {
  readonly recordsMax: number;
  readonly bytesMax: number;
  readonly autoAck: boolean;
  readonly assignmentChanges: boolean;
}

/** One consumer group at work, as the calls use it: what is asked of its coordinator, and what its members read and ack. */
export class ConsumerGroup extends GroupModel {
  readonly #driver: GroupDriver;
  readonly #effects: GroupEffects;
  readonly #context: GroupContext;
  readonly #withholding = new Mutex();

  static load(loaded: LoadedIdentity, context: GroupContext): ConsumerGroup {
    const { assignors, clock } = context;
    const rules = { assignors, gatherMs: limits.rebalanceGatherMs };
    return new ConsumerGroup(loaded, new Group(loaded.snapshot, clock.nowMs(), rules), context);
  }

  private constructor(loaded: LoadedIdentity, machine: Group, context: GroupContext) {
    super(loaded, machine);
    this.#context = context;
    this.#effects = new GroupEffects(this, context);
    this.#driver = new GroupDriver(this, machine, this.#effects, context);
    for (const row of loaded.snapshot.members) this.members.set(row.memberId, new Member(row.memberId));
  }

  /** Adds a subscription with its cursors; members that want the topic get its partitions with the next bundle. */
  addSubscription(row: SubscriptionRow, topic: SubscribedTopic, claimed: readonly ClaimedLog[]): ActiveSubscription {
    const subscription = new ActiveSubscription(row, topic, claimed, this.#context);
    this.keep(subscription);
    this.#driver.add({ type: 'topic', topicId: row.topicId, partitions: subscription.partitions });
    return subscription;
  }

  /** The topic has grown to these logs: members that want it get the new ones by the ordinary rebalance. */
  async growTopic(topicId: number, logs: readonly PartitionLog[]): Promise<void> {
    const subscription = this.subscriptions.get(topicId);
    if (subscription?.grow(logs) !== true) return;
    await this.#driver.feed({ type: 'topic', topicId, partitions: subscription.partitions });
  }

  /** After a load: partitions are with the members that held them; the first bundle removes those whose streams died. */
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
    for (const log of subscription.logs) {
      this.#context.rounds.forget(log);
      this.#effects.takeBack(log, false);
      log.close();
    }
    await this.#driver.feed({ type: 'topic', topicId, partitions: 0 });
  }

  /** The member, or MEMBER_FENCED if it is not (or no longer) one of this group. */
  member(memberId: MemberId): Member {
    const member = this.members.get(memberId);
    if (member !== undefined && this.row(memberId) !== undefined) return member;
    refuseIfUnsure(this.#context);
    this.#context.counts.fencedCalls++;
    throw memberFenced({ memberId });
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
    const joining = this.#driver.feed({ type: 'join', member: row, returning: reply === null });
    member.reply?.whenLost(() => void this.leave(member.id, 'LEFT'));
    try {
      await joining;
    } catch (error) {
      if (known === undefined && this.row(row.memberId) === undefined) this.members.delete(row.memberId);
      throw error;
    }
    return member;
  }

  /** The instance belongs to a client that knows it is a member: a join that is given up does not end that. */
  #isKnownInstance(instanceId: string | null): boolean {
    const row = instanceId === null ? undefined : this.rowOfInstance(instanceId);
    return row !== undefined && (this.members.get(row.memberId)?.isIntroduced ?? true);
  }

  /** The leader's plan. @throws Rejection NOT_LEADER, PLAN_STALE, ASSIGNOR_FAILED */
  async assign(memberId: MemberId, generation: number, plan: readonly MemberAssignment[]): Promise<void> {
    const planned = plan.flatMap((one) => this.refs(one.partitions).map((ref) => ({ ...ref, memberId: one.memberId })));
    const named = plan.reduce((sum, { partitions }) => sum + partitions.length, 0);
    if (planned.length < named) {
      throw assignorFailed('the plan names a topic that the group is not subscribed to');
    }
    await this.#driver.feed({ type: 'assign', memberId, generation, plan: planned });
  }

  /**
   * Runs `work` while no member has partitions of the topics: they are asked back first, and given out again after it. One after the
   * other, since the first of two would give out what the second still needs.
   */
  withheld<T>(topicIds: readonly number[], work: () => Promise<T>): Promise<T> {
    const hold = (held: boolean): Promise<unknown> =>
      Promise.all(topicIds.map((topicId) => this.#driver.feed({ type: 'hold', topicId, held })));
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
    return this.#driver.feed({ type: 'delete' });
  }

  leave(memberId: MemberId, reason: RemovalReason): Promise<void> {
    return this.#driver.feed({ type: 'leave', memberId, reason });
  }

  /** The member of a call that is a sign of work as well as of life. @throws Rejection MEMBER_FENCED */
  atWork(memberId: MemberId): Member {
    const member = this.member(memberId);
    this.worked(member);
    this.alive(memberId);
    return member;
  }

  /** A sign of life. It changes nothing durable, so it costs no write. */
  alive(memberId: MemberId, revoked: readonly PartitionRef[] = []): void {
    this.members.get(memberId)?.heard(this.#context.clock.nowMs());
    if (revoked.length === 0 && this.row(memberId)?.sessionTimeoutMs === null) return;
    this.#driver.tell({ type: 'alive', memberId, revoked });
  }

  /** A sign of work: the member may keep what it has for another max poll interval, and one that was stalled gets something again. */
  worked(member: Member): void {
    member.worked(this.#context.clock.nowMs());
    member.stalled = false;
    // Asked of the machine: that it is stalled may be decided and not carried out yet.
    if (this.isStalled(member.id)) {
      this.#driver.tell({ type: 'progress', memberId: member.id, busySinceMs: null });
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
    this.#effects.tellAssigned(member);
    this.#effects.tellRevoking(session, member.askedBack);
    session.wake();
    return session;
  }

  #joined({ id }: Member): StreamEvent {
    const row = this.row(id);
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
    session.end(replaced(member.id));
  }

  /**
   * A stream is over: a member without a session timeout goes with it. Only a lost connection may mean
   * that the client has failed on what it had.
   */
  streamClosed(member: Member, session: StreamSession, reason: StreamEnd): void {
    session.stop();
    if (!member.streamGone(session, reason, this.#context.clock.nowMs())) return;
    const row = this.row(member.id);
    if (row === undefined || row.sessionTimeoutMs !== null) return;
    void this.leave(member.id, reason === 'CONNECTION_LOST' ? 'STREAM_LOST' : 'LEFT');
  }

  /** Records of `log` are no longer in flight: their credit returns, which may let any log of the member go on. */
  settle(log: Feed, records: number, bytes: number): void {
    log.seat?.member.regain(records, bytes);
    this.#freed(log);
  }

  /** Records of the log are MOVING: all those of the runs are in flight, and a settlement completes them. */
  move(log: Feed, runs: OffsetRuns): MovingRecords {
    return this.#context.moves.begin(log, runs, () => {
      this.#freed(log);
    });
  }

  /** The log has fewer records in flight than before. */
  #freed({ seat, log }: Feed): void {
    if (seat === null) return;
    const { member } = seat;
    if (seat.revoking) this.#lookDrained(log.address);
    if (member.anonymous && this.members.size > 1) this.#dismiss(member);
    seat.wake();
  }

  /** Nothing of a partition that is asked back is in flight any more: it may go. */
  #lookDrained({ topicId, partition }: PartitionRef): void {
    const ref = { topicId, partition };
    if (this.isDrained(ref)) this.#driver.tell({ type: 'drained', partition: ref });
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
    return this.#driver.watch(ready, waitMs, signal);
  }

  /** Resolves when every input so far has had its effect. */
  settled(): Promise<void> {
    return this.#driver.feed({ type: 'tick' });
  }

  tellDraining(deadlineAtMs: number): void {
    for (const member of this.members.values()) {
      for (const reader of member.readers) {
        if (reader instanceof StreamSession) reader.drain(deadlineAtMs);
        else reader.end(null);
      }
    }
  }

  /** Stops everything of the group in this process; nothing durable changes. */
  stop(error: Rejection | null): void {
    this.#driver.stop();
    for (const member of this.members.values()) this.#effects.endReaders(member, error);
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
