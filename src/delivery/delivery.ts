import type { Commits } from '../commit/unit.ts';
import { draining, notOwner } from '../errors/rejections/broker.ts';
import { limits } from '../limits/limits.ts';
import type { StoredStart } from '../log/store.ts';
import { LatencyHistogram } from '../metrics/latency-histogram.ts';
import { pause } from '../time/pause.ts';
import { within } from '../time/within.ts';
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
import { ClassicCalls } from './calls/classic-calls.ts';
import type { GroupContext } from './groups/context.ts';
import { Admission } from './groups/admission.ts';
import type { Reservation } from './kept/kept.ts';
import { Groups } from './groups/groups.ts';
import { OffsetRetention } from './groups/offset-retention.ts';
import { Offsets } from './calls/offsets.ts';
import { PullSession } from './calls/pull.ts';
import { SubscriptionCalls } from './calls/subscription-calls.ts';
import { refuseCancelled } from './subscriptions/cancelled.ts';
import { GroupViews } from './views/group-views.ts';
import type { EventSink, MemberStream } from './ports/session.ts';
import { sharedContext, type DeliveryDeps } from './shared-context.ts';

/**
 * The calls of consumers. Each finds its group and its member, gives its input to the coordinator
 * or the cursors, and waits until the outcome is durable.
 */
export class Delivery {
  readonly offsets: Offsets;
  readonly membership: ClassicCalls;
  readonly subscriptions: SubscriptionCalls;
  readonly views: GroupViews;
  /** Acks from their arrival until they are durable. */
  readonly ackTimes = new LatencyHistogram();
  readonly #retention: OffsetRetention;
  readonly #nacks: NackLog;
  readonly #context: GroupContext;
  readonly #settlements: Commits;
  readonly #groups: Groups;
  readonly #admission: Admission;
  #draining = false;
  /** Ends the wait of a drain. */
  readonly #ending = new AbortController();

  constructor(deps: DeliveryDeps) {
    const { store } = deps;
    this.#context = sharedContext(deps);
    this.#nacks = new NackLog(deps);
    this.#settlements = deps.settlements;
    this.#groups = new Groups({
      store,
      topics: deps.topics,
      context: this.#context,
      starts: deps.owner.kind('starts'),
      onAckLogRead: (found) => {
        this.#context.rounds.start(found);
      },
      onLoaded: (group, loaded) => {
        this.#retention.loaded(group, loaded);
      },
      ...(deps.loadedTogetherMax !== undefined && { loadedTogetherMax: deps.loadedTogetherMax }),
    });
    this.#admission = new Admission(this.#groups, this.#context, deps.limits.groupMembersMax);
    this.membership = new ClassicCalls(this.#groups.inMemory, this.#admission, this.#context);
    this.#retention = new OffsetRetention({
      groups: this.#groups,
      context: this.#context,
      retentionMs: deps.limits.offsetRetentionMs,
    });
    this.offsets = new Offsets(this.#groups, this.#retention, this.#context);
    this.subscriptions = new SubscriptionCalls(this.#groups, this.#admission, this.#retention);
    this.views = new GroupViews(this.#groups, store, this.#context, deps.topics);
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
   * Ends the lives of the subscriptions that have been without a member for too long. It asks the
   * database only if there may be some. @throws Fault, Rejection NOT_OWNER
   */
  lookForDead(): Promise<void> {
    return this.#context.lives.look(this.#context.writer);
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
    refuseCancelled(group, this.#context, member.id);
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
      gaps: pulled.gaps,
    };
  }

  async ack(command: AckCommand): Promise<AckOutcome[]> {
    const group = this.#groups.inMemory.get(command.group);
    group.atWork(command.memberId);
    const { clock, rounds } = this.#context;
    const begunMs = clock.nowMs();
    const { outcomes, isWritten, nacks } = applyAcks(group, command, this.#context);
    for (const nack of nacks) this.#nacks.write(nack);
    // Entries that changed nothing wait too: ALREADY_ACKED may depend on an ack that is not durable
    // yet. A rejection and a RELEASE write nothing, so a proof that this broker is the owner
    // replaces their write.
    await (isWritten ? rounds.durable() : rounds.proven());
    this.ackTimes.observe(clock.nowMs() - begunMs);
    return outcomes.map((outcome) => outcome());
  }

  /**
   * Acks records and publishes others, in one transaction: all of it or nothing.
   * @throws Rejection or Fault. After OUTCOME_UNKNOWN and FENCED the next owner reads the outcome.
   */
  async settle(command: SettleCommand): Promise<SettleOutcome> {
    const group = this.#groups.inMemory.get(command.group);
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

  /** Reserves memory for new partitions of a topic in all groups. @throws Rejection BROKER_FULL */
  reserveGrowth(topicId: number, partitions: number): Reservation {
    return this.#groups.reservations.growth(topicId, partitions);
  }

  /** Gives the new partitions of a topic to the groups that subscribe to it, from their start. */
  async topicGrown(topicId: number): Promise<void> {
    await this.#groups.subscriptions.topicGrown(topicId);
  }

  /** Runs the deletion of a topic, with every subscription to it. */
  async deleteTopic(topicId: number, work: () => Promise<void>): Promise<void> {
    await this.#groups.subscriptions.deleteTopic(topicId, work);
  }

  /**
   * Runs a plan that drops records below the starts, which these subscriptions may have read no
   * further than. Records of theirs that are MOVING end before, and none begin meanwhile.
   */
  whileTrimmed<T>(
    topicId: number,
    starts: readonly StoredStart[],
    subscriptionIds: ReadonlySet<number>,
    work: () => Promise<T>,
  ): Promise<T> {
    return this.#groups.subscriptions.whileTrimmed(topicId, starts, subscriptionIds, work);
  }

  /** Resolves when the table of cursors has all acks that are durable by now. @throws Fault */
  foldNow(): Promise<void> {
    return this.#context.rounds.folded();
  }

  /**
   * Asks every member to reconnect, makes acks durable until the deadline, and ends the streams.
   */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    const loading = this.#groups.stop(draining('subscribe'));
    const { clock, rounds } = this.#context;
    const deadlineAtMs = clock.wallMs() + graceMs;
    const groups = this.#groups.inMemory.all();
    for (const group of groups) group.tellDraining(deadlineAtMs);
    const idle = (): boolean => groups.every((group) => group.inFlightToStreams() === 0);
    const untilMs = clock.nowMs() + graceMs;
    const { signal } = this.#ending;
    while (!idle() && clock.nowMs() < untilMs && !signal.aborted) await pause(clock, drainLookMs, signal);
    const retention = this.#retention.stop();
    await rounds.drain(untilMs);
    await within(clock, untilMs - clock.nowMs(), Promise.all([retention, loading]));
    for (const group of groups) group.stop(draining('subscribe'));
    this.#context.moves.stop();
    this.#context.jumps.stop();
    this.#context.deliveryRoom.stop();
    await Promise.all([this.#nacks.stop(), this.#context.slowReaders.stop()]);
  }

  /** Ends everything in this process at once, because another broker owns the groups now. */
  async stop(): Promise<void> {
    this.#draining = true;
    this.#ending.abort();
    this.#context.writer.stop();
    this.#context.moves.stop();
    this.#context.jumps.stop();
    this.#context.deliveryRoom.stop();
    const error = notOwner('TAKEN_OVER');
    const jobs = [this.#groups.stop(error), this.#context.rounds.stop(), this.#retention.stop(), this.#nacks.stop()];
    for (const group of this.#groups.inMemory.all()) group.stop(error);
    await Promise.all([...jobs, this.#context.slowReaders.stop()]);
  }

  #refuseIfDraining(): void {
    if (this.#draining) throw draining('subscribe');
  }
}

const nothing = new Uint8Array();

/** A drain looks so often whether everything is acked. */
const drainLookMs = 20;
