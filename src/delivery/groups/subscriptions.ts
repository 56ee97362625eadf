import type { Counted } from '../../account/hold.ts';
import { begunAt } from '../../consumption/partitioned/cursor.ts';
import { present } from '../../errors/present.ts';
import { subscriptionNotFound, subscriptionState } from '../../errors/rejections/groups.ts';
import { laneRequired, topicNotFound } from '../../errors/rejections/topics.ts';
import { limits } from '../../limits/limits.ts';
import type { PartitionLog } from '../../log/partition-log.ts';
import { placeInTopic } from '../../log/lanes.ts';
import type { StoredStart } from '../../log/store.ts';
import type { GapReason } from '../../retention/gap.ts';
import { inTurns } from '../../time/in-turns.ts';
import { Once } from '../../time/once.ts';
import type { Feed } from '../dispatch/feed.ts';
import { refuseUnlessMayGrow } from '../kept/growth.ts';
import type { StartPosition } from '../ports/subscriptions.ts';
import type { GroupStore, LogStart, SubscriptionInput, SubscriptionRow } from '../ports/store.ts';
import { ChosenStarts } from '../subscriptions/chosen-starts.ts';
import { startOffsets } from '../subscriptions/start-position.ts';
import {
  cursorOf,
  type ActiveSubscription,
  type ClaimedLog,
  type LoadedCursors,
} from '../subscriptions/subscription.ts';
import type { ConsumerGroup } from './consumer-group.ts';
import type { GroupContext } from './context.ts';
import type { LoadedGroups } from './loaded-groups.ts';

/** What a call may do to a subscription that goes on. */
export type CalledInput = Exclude<SubscriptionInput, { readonly type: 'CANCEL' }>;

/** The topics as delivery sees them. */
export interface TopicLogs {
  topic(name: string): { readonly id: number; readonly name: string } | undefined;
  /** How many lanes each partition of the topic has. */
  lanes(topicId: number): number;
  /** How many records the logs of the topic have got together. */
  appendedRecords(topicId: number): number;
  /** By partition and lane; empty for a missing topic. Another list when the topic grows. */
  partitionLogs(topicId: number): readonly PartitionLog[];
  /** Why the last drop took records of the topic from cursors that it passed. */
  gapReason(topicId: number): GapReason;
  /**
   * Resolves when the starts and ends of the topic's logs have been read once.
   * @param isUrgent a call waits for them.
   * @throws Fault
   */
  untilOpen(topicId: number, isUrgent: boolean): Promise<void>;
  /** Counts the ACTIVE and PAUSED subscriptions of a topic, beside those at the load. */
  liveSubscriptions?(topicId: number, change: 1 | 0 | -1): void;
}

/** A subscription with its group. */
export interface FoundSubscription {
  readonly group: ConsumerGroup;
  readonly subscription: ActiveSubscription;
}

export interface SubscriptionsDeps {
  readonly store: Pick<GroupStore, 'createSubscriptions'>;
  readonly topics: TopicLogs;
  readonly context: GroupContext;
  /** Counts the first offsets of subscriptions that are being created. */
  readonly starts: Counted;
}

/** The subscriptions of all groups in memory: resumes, creates, grows and ends them. */
export class Subscriptions {
  readonly #store: SubscriptionsDeps['store'];
  readonly #topics: TopicLogs;
  readonly #context: GroupContext;
  readonly #groups: LoadedGroups;
  /** Subscriptions under creation, so that two calls create one once. */
  readonly #making = new Once<string, ActiveSubscription>();
  readonly #chosenStarts: ChosenStarts;

  constructor(groups: LoadedGroups, { store, topics, context, starts }: SubscriptionsDeps) {
    this.#groups = groups;
    this.#store = store;
    this.#topics = topics;
    this.#context = context;
    this.#chosenStarts = new ChosenStarts(starts);
  }

  /** The number of logs of a topic. */
  logsOf(topicId: number): number {
    return this.#topics.partitionLogs(topicId).length;
  }

  /**
   * Resolves when the ends of the logs of the topics are known.
   * @param isUrgent a call waits for them.
   * @throws Fault
   */
  async untilOpen(topicIds: Iterable<number>, isUrgent: boolean): Promise<void> {
    await Promise.all(Array.from(new Set(topicIds), (topicId) => this.#topics.untilOpen(topicId, isUrgent)));
  }

  /** @throws Rejection TOPIC_NOT_FOUND */
  topicId(name: string): number {
    const topic = this.#topics.topic(name);
    if (topic !== undefined) return topic.id;
    throw topicNotFound({ topic: name });
  }

  /**
   * The ids of the topics of a member. A member that does not know lanes would ack records of other
   * lanes. @throws Rejection LANE_REQUIRED, TOPIC_NOT_FOUND
   */
  readableTopicIds({
    topics,
    lanes: knowsLanes,
  }: {
    readonly topics: readonly string[];
    readonly lanes: boolean;
  }): number[] {
    return topics.map((name) => {
      const topicId = this.topicId(name);
      const lanes = this.#topics.lanes(topicId);
      if (lanes === 1 || knowsLanes) return topicId;
      throw laneRequired({ topic: name, lanes, missing: 'MEMBER' });
    });
  }

  /** @throws Rejection SUBSCRIPTION_NOT_FOUND */
  get(groupName: string, topicName: string): FoundSubscription {
    const group = this.#groups.find(groupName);
    const topic = this.#topics.topic(topicName);
    const subscription = topic === undefined ? undefined : group?.subscriptions.get(topic.id);
    if (group !== undefined && subscription !== undefined) return { group, subscription };
    throw subscriptionNotFound({ group: groupName, topic: topicName });
  }

  /**
   * Gives a loaded group a subscription that the database has, to an open topic. One to a topic
   * that was deleted meanwhile is ignored.
   */
  resume(group: ConsumerGroup, row: SubscriptionRow, loaded: LoadedCursors): void {
    const topicLogs = this.#topics.partitionLogs(row.topicId);
    const name = topicLogs[0]?.address.topicName;
    // A deleted topic has no logs.
    if (name === undefined) return;
    const lanes = this.#topics.lanes(row.topicId);
    const cursors = loaded.of(row.id, lanes);
    const logs = topicLogs.map((log) => {
      return { log, cursor: cursors[placeInTopic(lanes, log.address)] ?? cursorOf(begunAt(log.startOffset)) };
    });
    const subscription = group.addSubscription(row, { name, lanes }, logs, false);
    for (const feed of subscription.logs) if (loaded.inAckLog(feed.cursor)) this.#context.rounds.loaded(feed);
    for (const gap of loaded.gapsOf(row.id)) subscription.gapLoaded(gap);
    this.#groups.subscriptionsChanged();
  }

  /** Creates the missing subscriptions of the group to the topics, which begin at `start`. */
  async demandAll(group: ConsumerGroup, topics: readonly string[], start: StartPosition): Promise<void> {
    // A missing topic rejects the call before it creates anything.
    for (const topic of topics) this.topicId(topic);
    await Promise.all(topics.map((topic) => this.demand(group, topic, start)));
  }

  /**
   * Finds or creates the subscription.
   * @param deadAfterMs of one that is created; null: it never dies.
   */
  async demand(
    group: ConsumerGroup,
    topic: string,
    start: StartPosition,
    deadAfterMs: number | null = limits.deadAfterMsDefault,
  ): Promise<ActiveSubscription> {
    const topicId = this.topicId(topic);
    const known = group.subscriptions.get(topicId);
    if (known !== undefined) return known;
    refuseUnlessMayGrow(this.#context.mayGrow);
    return this.#making.run(`${group.id}/${topicId}`, async () => {
      await this.untilOpen([topicId], true);
      this.#refuseIfGone(topicId, topic);
      return this.#make(group, topicId, start, deadAfterMs);
    });
  }

  async #make(
    group: ConsumerGroup,
    topicId: number,
    start: StartPosition,
    deadAfterMs: number | null,
  ): Promise<ActiveSubscription> {
    const logs = this.#topics.partitionLogs(topicId);
    const lanes = this.#topics.lanes(topicId);
    const name = logs[0]?.address.topicName ?? '';
    const { row, starts } = await this.#chosenStarts.create(
      { groupId: group.id, topicId, logs: logs.length },
      () => startOffsets(start, logs, lanes),
      async (chosen) => {
        const offsets = chosen.map((offset, at) => ({
          ...placeOf(present(logs[at], 'each start is that of a log')),
          offset,
        }));
        const creating = this.#store.createSubscriptions([{ groupId: group.id, topicId, deadAfterMs, offsets }]);
        // The topic may be deleted meanwhile. The store refuses the row then, or deletes it.
        const [created] = await creating.finally(() => this.#refuseIfGone(topicId, name));
        if (created === undefined) throw new Error('the store made no subscription');
        return created;
      },
    );
    const claimed = startedAt(this.#topics.partitionLogs(topicId), lanes, starts);
    this.#groups.subscriptionsChanged();
    return group.addSubscription(row, { name, lanes }, claimed, true);
  }

  #refuseIfGone(topicId: number, topic: string): void {
    if (this.#topics.topic(topic)?.id !== topicId) throw topicNotFound({ topic });
  }

  /** Adds the new partitions to all groups. Groups that subscribe later have them anyway. */
  async topicGrown(topicId: number): Promise<void> {
    const logs = this.#topics.partitionLogs(topicId);
    await Promise.all(this.#groups.all().map((group) => group.growTopic(topicId, logs)));
  }

  /**
   * Runs the deletion of a topic when none of its records is MOVING, and removes all subscriptions
   * to the topic.
   */
  async deleteTopic(topicId: number, work: () => Promise<void>): Promise<void> {
    const feeds = this.#groups.all().flatMap(({ subscriptions }) => subscriptions.get(topicId)?.logs ?? []);
    await this.#context.moves.whileStill(feeds, async () => {
      await work();
      this.#chosenStarts.forgetOf({ topicId });
      const removed = this.#groups.all().map((group) => group.removeSubscription(topicId));
      this.#groups.subscriptionsChanged();
      await Promise.all(removed);
    });
  }

  /**
   * Runs `work`, which drops records below the starts, while no record is MOVING in the logs of
   * these subscriptions that are below a start.
   */
  async whileTrimmed<T>(
    topicId: number,
    starts: readonly StoredStart[],
    subscriptionIds: ReadonlySet<number>,
    work: () => Promise<T>,
  ): Promise<T> {
    if (subscriptionIds.size === 0) return work();
    const { clock, moves, jumps } = this.#context;
    const below = await inTurns(clock, this.#below(topicId, starts, subscriptionIds));
    return moves.whileStill(below, async () => {
      const result = await work();
      await jumps.ended(below);
      return result;
    });
  }

  /** The loaded logs of the subscriptions that begin below the start. */
  *#below(
    topicId: number,
    starts: readonly StoredStart[],
    subscriptionIds: ReadonlySet<number>,
  ): Generator<undefined, Feed[]> {
    const below: Feed[] = [];
    let visited = 0;
    for (const { subscriptions } of this.#groups.all()) {
      const subscription = subscriptions.get(topicId);
      if (subscription === undefined || !subscriptionIds.has(subscription.row.id)) continue;
      for (const start of starts) {
        const feed = subscription.logs[placeInTopic(subscription.lanes, start)];
        if (feed !== undefined && feed.cursor.committedOffset < start.startOffset) below.push(feed);
        if (++visited % limits.entriesAtOnceMax === 0) yield;
      }
    }
    return below;
  }

  /**
   * Ends the claim, also while members read the topic: their readers end.
   * @returns the last row of the subscription.
   */
  async cancel(found: FoundSubscription): Promise<SubscriptionRow> {
    const { group, subscription } = found;
    const { topicId } = subscription.row;
    return this.#context.moves.whileStill(subscription.logs, async () => {
      const ends = { type: 'CANCEL', ends: subscription.ends(), owedRecords: subscription.owedRecords() } as const;
      const row = await this.#write(found, ends);
      // Another cancel may have come first, and the group may have another subscription since.
      if (group.subscriptions.get(topicId) !== subscription) return row;
      const removed = group.removeSubscription(topicId);
      this.#groups.subscriptionsChanged();
      group.subscriptionCancelled(topicId, subscription.topicName);
      await removed;
      return row;
    });
  }

  /** @throws Rejection SUBSCRIPTION_STATE, SUBSCRIPTION_NOT_FOUND */
  async change(found: FoundSubscription, input: CalledInput): Promise<void> {
    await this.#write(found, input);
  }

  async #write({ group, subscription }: FoundSubscription, input: SubscriptionInput): Promise<SubscriptionRow> {
    const { id } = subscription.row;
    const { lives, writer } = this.#context;
    const change = await writer.settle(
      (store) => store.changeSubscription(id, input),
      (known) => {
        if (known.type === 'STORED') lives.changed([known.row]);
      },
    );
    if (change.type === 'STORED') return change.row;
    const names = { group: group.name, topic: subscription.topicName };
    // A cancel or a deletion may come first.
    if (change.type === 'GONE' || change.state === 'CANCELLED') throw subscriptionNotFound(names);
    throw subscriptionState({ ...names, state: change.state });
  }

  /** The group is deleted, and so are all its subscriptions. */
  forgetGroup(group: ConsumerGroup): void {
    this.#chosenStarts.forgetOf({ groupId: group.id });
  }
}

/** The logs of a new subscription. Those that the topic got meanwhile begin at their start. */
function startedAt(logs: readonly PartitionLog[], lanes: number, starts: readonly LogStart[]): ClaimedLog[] {
  const offsets: number[] = [];
  for (const start of starts) offsets[placeInTopic(lanes, start)] = start.offset;
  return logs.map((log, at) => ({ log, cursor: cursorOf(begunAt(offsets[at] ?? log.startOffset)) }));
}

function placeOf({ address: { partition, lane } }: PartitionLog): { partition: number; lane: number } {
  return { partition, lane };
}
