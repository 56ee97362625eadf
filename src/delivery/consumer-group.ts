import { Cursor } from '../cursor/cursor.ts';
import type { Group, GroupEffect, MemberId, MemberRow, PartitionRef, RemovalReason } from '../coordinator/group.ts';
import { Credit } from '../credit/credit.ts';
import { Rejection } from '../errors/rejection.ts';
import { limits } from '../limits/limits.ts';
import type { PartitionLog } from '../log/partition-log.ts';
import { ConsumedLog } from './consumed-log.ts';
import type { GroupContext } from './context.ts';
import { Coordination } from './coordination.ts';
import { fenced, refuseUnlessEmpty } from './refusals.ts';
import { Member } from './member.ts';
import type { EventSink, StreamEvent, TopicPartition } from './session.ts';
import { StreamSession } from './stream-session.ts';
import type { LoadedGroup, StoredCursor, SubscriptionRow } from './store.ts';
import { Turns } from './turns.ts';

/** A subscription at work: the claim and one consumed log for each partition. */
export interface ActiveSubscription {
  readonly row: SubscriptionRow;
  readonly topicName: string;
  /** By partition; lane 0. */
  readonly logs: readonly ConsumedLog[];
}

/** What a stream may have in flight. */
export interface StreamCredit {
  readonly recordsMax: number;
  readonly bytesMax: number;
  readonly autoAck: boolean;
}

/**
 * One consumer group at work: feeds its coordinator, makes what that decides durable, and then carries it out on
 * members and cursors.
 */
export class ConsumerGroup {
  readonly id: number;
  readonly name: string;
  readonly members = new Map<MemberId, Member>();
  readonly subscriptions = new Map<number, ActiveSubscription>();
  readonly #coordination: Coordination;
  readonly #context: GroupContext;
  /** Called after each bundle: what waits for a change of the assignment. */
  readonly #watchers = new Set<() => void>();
  readonly #withholding = new Turns();

  constructor(loaded: Pick<LoadedGroup, 'id' | 'name' | 'snapshot'>, context: GroupContext) {
    this.id = loaded.id;
    this.name = loaded.name;
    this.#context = context;
    this.#coordination = new Coordination(loaded.id, loaded.snapshot, context, (effects) => {
      for (const effect of effects) this.#carryOut(effect);
      for (const look of [...this.#watchers]) look();
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
  addSubscription(
    row: SubscriptionRow,
    topicName: string,
    logs: readonly { readonly log: PartitionLog; readonly cursor: StoredCursor['cursor'] }[],
  ): ActiveSubscription {
    const { clock } = this.#context;
    const consumed = logs.map(({ log, cursor }) => {
      const { partition, lane } = log.address;
      return new ConsumedLog({ subscriptionId: row.id, partition, lane }, new Cursor(cursor), log, clock);
    });
    const subscription = { row, topicName, logs: consumed };
    this.subscriptions.set(row.topicId, subscription);
    this.#coordination.add({ type: 'topic', topicId: row.topicId, partitions: consumed.length });
    return subscription;
  }

  /** After a load: partitions are with the members that held them; the first bundle removes those whose streams died. */
  async resume(assigned: LoadedGroup['snapshot']['assignments']): Promise<void> {
    for (const row of assigned) {
      const log = this.log(row);
      const member = this.members.get(row.memberId);
      if (log !== undefined && member !== undefined) member.hold(log);
    }
    await this.#coordination.feed({ type: 'tick' });
  }

  async removeSubscription(topicId: number): Promise<void> {
    const subscription = this.subscriptions.get(topicId);
    if (subscription === undefined) return;
    this.subscriptions.delete(topicId);
    for (const log of subscription.logs) {
      this.#context.rounds.forget(log);
      this.#takeBack(log, false);
      log.close();
    }
    await this.#coordination.feed({ type: 'topic', topicId, partitions: 0 });
  }

  log(ref: PartitionRef): ConsumedLog | undefined {
    return this.subscriptions.get(ref.topicId)?.logs[ref.partition];
  }

  /** The member, or MEMBER_FENCED if it is not (or no longer) one of this group. */
  member(memberId: MemberId): Member {
    const member = this.members.get(memberId);
    if (member === undefined || this.machine.member(memberId) === undefined) throw fenced(memberId);
    return member;
  }

  /**
   * Runs `work` while nobody has partitions of the topics, one after the other. A group with members is refused: they keep what they
   * have; joins wait for the work.
   */
  withheld<T>(_topicIds: readonly number[], work: () => Promise<T>): Promise<T> {
    return this.#withholding.take(() => {
      refuseUnlessEmpty(this);
      return work();
    });
  }

  /** Joins, or changes the topics of a member. Resolves when the assignment is durable and in force. */
  async join(row: Omit<MemberRow, 'joinSeq'>): Promise<Member> {
    while (this.#withholding.underWay !== null) await this.#withholding.underWay;
    this.#makeRoom(row.memberId);
    const known = this.members.get(row.memberId);
    const member = known ?? new Member(row.memberId);
    this.members.set(row.memberId, member);
    await this.#coordination.feed({ type: 'join', member: row });
    return member;
  }

  leave(memberId: MemberId, reason: RemovalReason): Promise<void> {
    return this.#coordination.feed({ type: 'leave', memberId, reason });
  }

  /** A sign of life. It changes nothing durable, so it costs no write. */
  alive(memberId: MemberId, revoked: readonly PartitionRef[] = []): void {
    if (revoked.length === 0 && this.machine.member(memberId)?.sessionTimeoutMs === null) return;
    void this.#coordination.feed({ type: 'alive', memberId, revoked });
  }

  /** Opens the member's stream; one that is open already ends with REPLACED. */
  openStream(member: Member, sink: EventSink, options: StreamCredit): StreamSession {
    const { clock, unsentBytesMax, mayDeliver, rounds } = this.#context;
    for (const reader of member.readers) if (reader instanceof StreamSession) this.#replace(member, reader);
    this.#sendAgain(member);
    member.credit = new Credit(options.recordsMax, options.bytesMax);
    const session = new StreamSession({
      member,
      sink,
      autoAck: options.autoAck,
      handOut: this.#context,
      clock,
      unsentBytesMax,
      mayDeliver,
      generation: () => this.generation,
      ackNow: (log, upTo) => {
        const freed = log.cursor.ackUpTo(upTo);
        rounds.mark(log);
        this.settle(log, freed.records, freed.bytes);
      },
    });
    session.tell(this.#joined(member));
    member.readers.add(session);
    this.#tellAssigned(member);
    session.wake();
    return session;
  }

  #joined({ id }: Member): StreamEvent {
    const sessionTimeoutMs = this.machine.member(id)?.sessionTimeoutMs ?? null;
    const heartbeatIntervalMs = sessionTimeoutMs === null ? null : limits.heartbeatIntervalMs;
    return { type: 'joined', memberId: id, generation: this.generation, heartbeatIntervalMs, sessionTimeoutMs };
  }

  #replace(member: Member, session: StreamSession): void {
    member.readers.delete(session);
    session.end(new Rejection('REPLACED', `another stream has resumed member "${member.id}"; this one has ended`));
  }

  /** The client of a stream has gone: a member without a session timeout goes with it. */
  streamClosed(member: Member, session: StreamSession): void {
    session.stop();
    if (!member.readers.delete(session)) return;
    const row = this.machine.member(member.id);
    if (row !== undefined && row.sessionTimeoutMs === null) void this.leave(member.id, 'STREAM_LOST');
  }

  /** Records of `log` are no longer in flight: their credit returns, which may let any log of the member go on. */
  settle(log: ConsumedLog, records: number, bytes: number): void {
    const { holder } = log;
    if (holder === null) return;
    if (records > 0) holder.credit.give(records, bytes);
    if (log.revoking && log.cursor.inFlightRecords === 0) this.#drained(log);
    if (holder.anonymous && this.members.size > 1) this.#dismiss(holder);
    holder.wake();
  }

  /**
   * Records of `log` were handed out with a lease: when the earliest runs out, they come again, as the next attempt.
   * One timer a log.
   */
  watchLeases(log: ConsumedLog): void {
    const atMs = log.cursor.nextDeadlineMs();
    if (atMs === null || log.leaseTimer !== null) return;
    const { clock, rounds } = this.#context;
    log.leaseTimer = clock.after(Math.max(1, Math.ceil(atMs - clock.nowMs())), () => {
      log.leaseTimer = null;
      const freed = log.cursor.expireLeases(clock.nowMs());
      if (freed.records > 0) {
        rounds.mark(log);
        this.settle(log, freed.records, freed.bytes);
      }
      if (log.cursor.inFlightRecords > 0) this.watchLeases(log);
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
    const ids = new Map(Array.from(this.subscriptions.values(), (s) => [s.topicName, s.row.topicId]));
    return partitions.flatMap(({ topic, partition }) => {
      const topicId = ids.get(topic);
      return topicId === undefined ? [] : [{ topicId, partition }];
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
    for (const member of this.members.values()) this.#endReaders(member, error);
    for (const subscription of this.subscriptions.values()) for (const log of subscription.logs) log.close();
  }

  #carryOut(effect: GroupEffect): void {
    switch (effect.type) {
      case 'persist':
        return;
      case 'assigned':
        this.#assigned(effect.memberId, effect.added);
        return;
      case 'revoking':
        this.#revoking(effect);
        return;
      case 'revoked':
        this.#revoked(effect.memberId, effect.partitions);
        return;
      case 'removed':
        this.#removed(effect.memberId, effect.reason);
        return;
    }
  }

  #assigned(memberId: MemberId, added: readonly PartitionRef[]): void {
    const member = this.members.get(memberId);
    if (member === undefined) return;
    for (const ref of added) {
      const log = this.log(ref);
      if (log === undefined) continue;
      if (log.holder !== null && log.holder !== member) this.#takeBack(log, false);
      member.hold(log);
    }
    this.#tellAssigned(member);
    member.wake();
  }

  #tellAssigned(member: Member): void {
    const partitions = member.partitions();
    for (const reader of member.readers) {
      if (reader instanceof StreamSession) reader.tell({ type: 'assigned', generation: this.generation, partitions });
    }
  }

  #revoking(effect: Extract<GroupEffect, { type: 'revoking' }>): void {
    const member = this.members.get(effect.memberId);
    if (member === undefined) return;
    const logs = effect.partitions.flatMap((ref) => this.log(ref) ?? []);
    for (const log of logs) log.revoking = true;
    member.assignmentVersion++;
    const { clock } = this.#context;
    const deadlineAtMs = clock.wallMs() + (effect.deadlineMs - clock.nowMs());
    const partitions = logs.map((log) => ({ topic: log.topic, partition: log.key.partition }));
    for (const reader of member.readers) {
      if (reader instanceof StreamSession) {
        reader.tell({ type: 'revoking', generation: effect.generation, partitions, deadlineAtMs });
      }
    }
    for (const log of logs) if (log.cursor.inFlightRecords === 0) this.#drained(log);
  }

  #drained(log: ConsumedLog): void {
    const { topicId, partition } = log.log.address;
    void this.#coordination.feed({ type: 'drained', partition: { topicId, partition } });
  }

  #revoked(memberId: MemberId, partitions: readonly PartitionRef[]): void {
    for (const ref of partitions) {
      const log = this.log(ref);
      if (log?.holder?.id === memberId) this.#takeBack(log, false);
    }
    const member = this.members.get(memberId);
    if (member !== undefined) this.#tellAssigned(member);
  }

  #removed(memberId: MemberId, reason: RemovalReason): void {
    const member = this.members.get(memberId);
    if (member === undefined) return;
    this.members.delete(memberId);
    // A member that left says that it did not fail; one that was lost may have failed on what it had.
    for (const log of [...member.logs]) this.#takeBack(log, reason !== 'LEFT');
    this.#endReaders(member, reason === 'LEFT' ? null : fenced(memberId));
  }

  /** What was in flight of the log is given back; the next holder begins there. */
  #takeBack(log: ConsumedLog, countAttempt: boolean): void {
    const { holder } = log;
    const freed = log.cursor.giveBackAll(countAttempt);
    if (countAttempt && freed.records > 0) this.#context.rounds.mark(log);
    if (holder === null) return;
    if (freed.records > 0) holder.credit.give(freed.records, freed.bytes);
    holder.letGo(log);
    holder.wake();
  }

  /** A resumed stream gets everything un-acked again, attempt unchanged, and its credit counts from zero. */
  #sendAgain(member: Member): void {
    for (const log of member.logs) {
      const freed = log.cursor.resend();
      if (freed.records > 0) member.credit.give(freed.records, freed.bytes);
    }
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
    if (member.readers.size > 0 || member.logs.some((log) => log.cursor.inFlightRecords > 0)) return;
    void this.leave(member.id, 'LEFT');
  }

  #endReaders(member: Member, error: Rejection | null): void {
    for (const reader of member.readers) reader.end(error);
    member.readers.clear();
  }
}
