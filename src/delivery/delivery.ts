import type { AckRing } from '../commit/ack-ring.ts';
import type { AckLogStore } from '../commit/store.ts';
import type { Commits } from '../commit/unit.ts';
import type { Assignors } from '../coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../coordinator/assignors/built-in.ts';
import { present } from '../errors/present.ts';
import { draining, notOwner } from '../errors/rejections/broker.ts';
import { limits, type TunableLimits } from '../limits/limits.ts';
import type { BatchCodec } from '../log/batch.ts';
import type { Clock, Random } from '../time/clock.ts';
import { pause } from '../time/pause.ts';
import { within } from '../time/within.ts';
import type { Account } from '../account/account.ts';
import type { Owner } from '../account/owner.ts';
import { AckRounds } from './rounds/ack-rounds.ts';
import { Moves } from './rounds/moves.ts';
import { applyAcks } from './calls/acks.ts';
import { NackLog } from './calls/nack-log.ts';
import { settle } from './calls/settle.ts';
import type { AckCommand, AckOutcome } from './ports/acks.ts';
import type { SettleCommand, SettleOutcome } from './ports/settle.ts';
import type {
  JoinGroupCommand,
  JoinGroupOutcome,
  PullCommand,
  PullOutcome,
  SubscribeCommand,
} from './ports/membership.ts';
import type {
  CreateSubscriptionCommand,
  ListedSubscription,
  SubscriptionDetails,
  SubscriptionView,
} from './ports/subscriptions.ts';
import type { GroupFilter, GroupSummary, GroupView } from './ports/views.ts';
import { ClassicCalls } from './calls/classic-calls.ts';
import type { GroupContext } from './groups/context.ts';
import {
  countsOf,
  GroupSums,
  isShown,
  subscriptionDetails,
  subscriptionView,
  summaryOf,
  viewOf,
  type DeliveryCounts,
} from './views/describe.ts';
import { Admission } from './groups/admission.ts';
import { Kept, type Reservation } from './kept/kept.ts';
import { LostAttempts } from './kept/lost-attempts.ts';
import { DeliveryRoom } from './dispatch/delivery-room.ts';
import { FeedMemory } from './dispatch/feed-memory.ts';
import type { MayGrow } from './dispatch/growth.ts';
import { GroupWriter } from './groups/group-writer.ts';
import { Groups, type TopicLogs } from './groups/groups.ts';
import { byId } from './groups/subscription.ts';
import { OffsetRetention } from './groups/offset-retention.ts';
import { Offsets } from './calls/offsets.ts';
import { PullSession } from './calls/pull.ts';
import { SlowReaders, type SlowReadersDeps } from './dispatch/slow-readers.ts';
import type { EventSink, MemberStream } from './ports/session.ts';
import type { GroupStore, StoredRebalance } from './ports/store.ts';

interface DeliveryDeps {
  readonly store: GroupStore;
  /** Where acks become durable. */
  readonly commits: AckLogStore;
  /** Where acks become durable together with publishes. */
  readonly settlements: Commits;
  readonly ring: AckRing;
  readonly topics: TopicLogs;
  readonly codec: BatchCodec;
  /** Default: the built-in assignors. */
  readonly assignors?: Assignors;
  readonly clock: Clock;
  readonly random: Random;
  readonly account: Account;
  /** Counts what this broker keeps. It closes with the broker. */
  readonly owner: Owner;
  readonly limits: SlowReadersDeps['limits'] & Pick<TunableLimits, 'groupMembersMax' | 'offsetRetentionMs'>;
  /** False while this broker cannot be sure that it still owns its groups. */
  readonly mayDeliver: () => boolean;
  readonly mayGrow: MayGrow;
  readonly onFenced: () => void;
  readonly log: GroupContext['log'];
  /** How many groups are loaded together. Default: 100. */
  readonly loadedTogetherMax?: number;
}

/**
 * The calls of consumers. Each finds its group and its member, gives its input to the coordinator
 * or the cursors, and waits until the outcome is durable.
 */
export class Delivery {
  readonly offsets: Offsets;
  readonly membership: ClassicCalls;
  readonly #retention: OffsetRetention;
  readonly #nacks: NackLog;
  readonly #context: GroupContext;
  readonly #store: GroupStore;
  readonly #settlements: Commits;
  readonly #groups: Groups;
  readonly #admission: Admission;
  readonly #sums: GroupSums;
  #draining = false;

  constructor(deps: DeliveryDeps) {
    const { store, commits, ring, clock, random, codec, mayDeliver, mayGrow, onFenced } = deps;
    const rounds = new AckRounds({
      store,
      commits,
      ring,
      clock,
      onFenced,
      onFoldFailed: (error) => {
        deps.log.warn({ err: error }, 'the ack log could not be folded into the cursors; it is tried again');
      },
    });
    this.#context = {
      clock,
      memory: new FeedMemory(deps.account),
      random,
      codec,
      assignors: deps.assignors ?? builtInAssignors,
      mayDeliver,
      kept: new Kept(deps.owner),
      lostAttempts: new LostAttempts(deps),
      mayGrow,
      rounds,
      moves: new Moves(rounds),
      writer: new GroupWriter({ store, clock, random, onFenced }),
      slowReaders: new SlowReaders(deps),
      deliveryRoom: new DeliveryRoom(deps),
      delivered: { records: 0, bytes: 0 },
      log: deps.log,
      counts: { rebalances: 0, rebalanceMs: 0, heartbeats: 0, sessionTimeouts: 0, fencedCalls: 0, commits: 0 },
    };
    this.#sums = new GroupSums(clock);
    this.#nacks = new NackLog(deps);
    this.#store = store;
    this.#settlements = deps.settlements;
    this.#groups = new Groups({
      store,
      topics: deps.topics,
      context: this.#context,
      starts: deps.owner.kind('starts'),
      onAckLogRead: (found) => {
        rounds.start(found);
      },
      onLoaded: (group, loaded) => {
        this.#retention.loaded(group, loaded);
      },
      ...(deps.loadedTogetherMax !== undefined && { loadedTogetherMax: deps.loadedTogetherMax }),
    });
    this.#admission = new Admission(this.#groups, this.#context, deps.limits.groupMembersMax);
    this.membership = new ClassicCalls(this.#groups, this.#admission, this.#context);
    this.#retention = new OffsetRetention({
      groups: this.#groups,
      context: this.#context,
      retentionMs: deps.limits.offsetRetentionMs,
    });
    this.offsets = new Offsets(this.#groups, this.#retention, this.#context);
  }

  /**
   * Begins to take over all groups as they were left; the topics must be open. The groups are
   * loaded while calls are served: each call on a group waits for `loaded` first. @throws Fault
   */
  async open(): Promise<void> {
    await this.#groups.open();
    this.#retention.start();
    this.#nacks.start();
    this.#context.slowReaders.start();
  }

  /**
   * Resolves when the group is in memory, if there is one of this name.
   * @throws Fault, Rejection NOT_OWNER
   */
  loaded(groupName: string): Promise<void> {
    return this.#groups.loaded(groupName);
  }

  /** Resolves when all groups are in memory. @throws Fault, Rejection NOT_OWNER */
  allLoaded(): Promise<void> {
    return this.#groups.allLoaded();
  }

  async subscribe(host: string, command: SubscribeCommand, sink: EventSink): Promise<MemberStream> {
    this.#refuseIfDraining();
    const { sessionTimeoutMs, rebalanceTimeoutMs, assignor, metadata } = command;
    const { group, member } = await this.#admission.enter(command, {
      kind: 'STREAM',
      host,
      sessionTimeoutMs,
      rebalanceTimeoutMs,
      assignor,
      clientAssignors: [],
      metadata,
    });
    const session = group.openStream(member, sink, {
      recordsMax: command.maxInFlightRecords,
      bytesMax: command.maxInFlightBytes,
      autoAck: command.autoAck,
      assignmentChanges: command.assignmentChanges,
    });
    return {
      closed: (reason) => {
        group.streamClosed(member, session, reason);
      },
    };
  }

  async pull(host: string, command: PullCommand): Promise<PullOutcome> {
    this.#refuseIfDraining();
    const { group, member } = await this.#admission.enter(command, {
      kind: 'PULL',
      host,
      sessionTimeoutMs: command.sessionTimeoutMs,
      rebalanceTimeoutMs: limits.rebalanceTimeoutMsDefault,
      assignor: 'sticky',
      clientAssignors: [],
      metadata: nothing,
    });
    member.anonymous = command.memberId === null && command.instanceId === null;
    const pulled = await new PullSession(group, member, command, this.#context).run();
    if (pulled.acked.length > 0) {
      for (const log of pulled.acked) this.#context.rounds.mark(log);
      // Auto-ack delivers at most once, so the ack is durable before the records may get lost on
      // the way.
      await this.#context.rounds.durable();
    }
    const { clock } = this.#context;
    return {
      memberId: member.id,
      generation: group.generation,
      leaseDeadlineAtMs: pulled.leaseUntilMs === null ? null : clock.wallMs() + (pulled.leaseUntilMs - clock.nowMs()),
      fields: pulled.fields,
      blockedOn: pulled.blockedOn,
    };
  }

  async ack(command: AckCommand): Promise<AckOutcome[]> {
    const group = this.#groups.get(command.group);
    group.atWork(command.memberId);
    const { outcomes, isWritten, nacks } = applyAcks(group, command, this.#context);
    for (const nack of nacks) this.#nacks.write(nack);
    // Entries that changed nothing wait too: ALREADY_ACKED may depend on an ack that is not durable
    // yet. A rejection and a RELEASE write nothing, so a proof that this broker is the owner
    // replaces their write.
    const { rounds } = this.#context;
    await (isWritten ? rounds.durable() : rounds.proven());
    return outcomes.map((outcome) => outcome());
  }

  /**
   * Acks records and publishes others, in one transaction: all of it or nothing.
   * @throws Rejection or Fault. After OUTCOME_UNKNOWN and FENCED the next owner reads the outcome.
   */
  async settle(command: SettleCommand): Promise<SettleOutcome> {
    const group = this.#groups.get(command.group);
    group.atWork(command.memberId);
    const outcome = await settle(group, command, this.#context, this.#settlements);
    // Only the owner may reject, as in `ack`.
    if (outcome.published === null) await this.#context.rounds.proven();
    return outcome;
  }

  join(host: string, command: JoinGroupCommand): Promise<JoinGroupOutcome> {
    this.#refuseIfDraining();
    return this.membership.join(host, command);
  }

  /** @throws Rejection GROUP_NOT_FOUND, GROUP_NOT_EMPTY */
  deleteGroup(name: string): Promise<void> {
    return this.#groups.delete(name);
  }

  /** @throws Rejection GROUP_NOT_FOUND */
  describe(name: string): GroupView {
    return viewOf(this.#groups.get(name));
  }

  /** The names of the groups that the filter selects, in order. */
  names(filter: GroupFilter): string[] {
    return this.#groups
      .all()
      .filter((group) => isShown(group, filter))
      .map(({ name }) => name);
  }

  /** The group as a list shows it. */
  summary(name: string): GroupSummary {
    return summaryOf(this.#groups.get(name), limits.listedTopicsMax);
  }

  /**
   * The last rebalances that have ended, the newest first. @throws Rejection GROUP_NOT_FOUND, Fault
   */
  async rebalances(name: string): Promise<StoredRebalance[]> {
    return this.#store.loadRebalances(this.#groups.get(name).id);
  }

  async createSubscription(command: CreateSubscriptionCommand): Promise<SubscriptionView> {
    const { group, subscription } = await this.#admission.createSubscription(command);
    this.#retention.touch(group);
    return subscriptionView(group, subscription);
  }

  getSubscription(groupName: string, topicName: string): SubscriptionView {
    const { group, subscription } = this.#groups.subscription(groupName, topicName);
    return subscriptionView(group, subscription);
  }

  /** The active subscriptions that the filter selects, ordered by id. */
  listSubscriptions(filter: {
    readonly group: string | null;
    readonly topic: string | null;
  }): readonly ListedSubscription[] {
    const ofGroup = filter.group === null ? null : this.#groups.find(filter.group)?.subscriptions.values();
    const found = ofGroup === null ? this.#groups.subscriptions() : byId(ofGroup ?? []);
    return filter.topic === null ? found : found.filter(({ topicName }) => topicName === filter.topic);
  }

  /** A subscription that `listSubscriptions` has just found. */
  subscriptionDetails(listed: ListedSubscription): SubscriptionDetails {
    const group = this.#groups.ofSubscription(listed);
    const { topicId } = listed.row;
    return subscriptionDetails(group, present(group.subscriptions.get(topicId), 'a listed subscription is there'));
  }

  cancelSubscription(groupName: string, topicName: string): Promise<SubscriptionDetails> {
    this.#groups.subscription(groupName, topicName);
    return this.#groups.within(groupName, async () => {
      const found = this.#groups.subscription(groupName, topicName);
      await this.#groups.cancel(found);
      return subscriptionDetails(found.group, found.subscription, 'CANCELLED');
    });
  }

  /** Reserves memory for new partitions of a topic in all groups. @throws Rejection BROKER_FULL */
  reserveGrowth(topicId: number, partitions: number): Reservation {
    return this.#groups.reservations.growth(topicId, partitions);
  }

  /** Gives the new partitions of a topic to the groups that subscribe to it, from their start. */
  async topicGrown(topicId: number): Promise<void> {
    await this.#groups.topicGrown(topicId);
  }

  /** Runs the deletion of a topic, with every subscription to it. */
  async deleteTopic(topicId: number, work: () => Promise<void>): Promise<void> {
    await this.#groups.deleteTopic(topicId, work);
  }

  /**
   * Asks every member to reconnect, makes acks durable until the deadline, and ends the streams.
   */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    const loading = this.#groups.stop(draining('subscribe'));
    const { clock, rounds } = this.#context;
    const deadlineAtMs = clock.wallMs() + graceMs;
    const groups = this.#groups.all();
    for (const group of groups) group.tellDraining(deadlineAtMs);
    const idle = (): boolean => groups.every((group) => group.inFlightToStreams() === 0);
    const untilMs = clock.nowMs() + graceMs;
    while (!idle() && clock.nowMs() < untilMs) await pause(clock, drainLookMs);
    const retention = this.#retention.stop();
    await rounds.drain(untilMs);
    await within(clock, untilMs - clock.nowMs(), Promise.all([retention, loading]));
    for (const group of groups) group.stop(draining('subscribe'));
    for (const part of [this.#context.moves, this.#context.deliveryRoom]) part.stop();
    await Promise.all([this.#nacks.stop(), this.#context.slowReaders.stop()]);
  }

  /** Ends everything in this process at once, because another broker owns the groups now. */
  async stop(): Promise<void> {
    this.#draining = true;
    for (const part of [this.#context.writer, this.#context.moves, this.#context.deliveryRoom]) part.stop();
    const error = notOwner('TAKEN_OVER');
    const jobs = [this.#groups.stop(error), this.#context.rounds.stop(), this.#retention.stop(), this.#nacks.stop()];
    for (const group of this.#groups.all()) group.stop(error);
    await Promise.all([...jobs, this.#context.slowReaders.stop()]);
  }

  /** The numbers for the metrics. */
  counts(): DeliveryCounts {
    return countsOf(this.#sums.of(this.#groups.all(), this.#groups.unloaded), this.#context);
  }

  #refuseIfDraining(): void {
    if (this.#draining) throw draining('subscribe');
  }
}

const nothing = new Uint8Array();

/** A drain looks so often whether everything is acked. */
const drainLookMs = 20;
