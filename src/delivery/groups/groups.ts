import assert from 'node:assert/strict';
import type { Counted } from '../../account/hold.ts';
import { begunAt } from '../../consumption/partitioned/cursor.ts';
import { present } from '../../errors/present.ts';
import { groupNotEmpty, groupNotFound, subscriptionNotFound } from '../../errors/rejections/groups.ts';
import { laneRequired, topicNotFound } from '../../errors/rejections/topics.ts';
import type { PartitionLog } from '../../log/partition-log.ts';
import { placeInTopic } from '../../log/lanes.ts';
import { SortedItems } from '../../log/sorted-items.ts';
import { Once } from '../../time/once.ts';
import type { StartPosition } from '../ports/subscriptions.ts';
import { ChosenStarts } from './chosen-starts.ts';
import { ConsumerGroup } from './consumer-group.ts';
import type { GroupContext } from './context.ts';
import { GroupLoader } from './group-loader.ts';
import { refuseUnlessMayGrow } from '../dispatch/growth.ts';
import { Reservations } from '../kept/reservations.ts';
import { refuseIfUnsure } from '../dispatch/not-owner.ts';
import { refuseUnlessEmpty } from './refusals.ts';
import { startOffsets } from './start-position.ts';
import type { FoundInAckLog, GroupStore, LoadedGroup, NamedGroup, SubscriptionRow } from '../ports/store.ts';
import { cursorOf, LoadedCursors, type ActiveSubscription } from './subscription.ts';

/** The topics as delivery sees them. */
export interface TopicLogs {
  topic(name: string): { readonly id: number; readonly name: string } | undefined;
  /** How many lanes each partition of the topic has. */
  lanes(topicId: number): number;
  /** By partition and lane; empty for a missing topic. Another list when the topic grows. */
  partitionLogs(topicId: number): readonly PartitionLog[];
}

interface GroupsDeps {
  readonly store: GroupStore;
  readonly topics: TopicLogs;
  readonly context: GroupContext;
  /** Counts the first offsets of subscriptions that are being created. */
  readonly starts: Counted;
  readonly onAckLogRead: (found: FoundInAckLog) => void;
  /** Called when the group is in memory and its first step is durable. */
  readonly onLoaded: (group: ConsumerGroup, loaded: LoadedGroup) => void;
  /** The number of groups that are loaded together. Default: 100. */
  readonly loadedTogetherMax?: number;
}

/** All groups in memory, with their subscriptions: loads, creates and finds them. */
export class Groups {
  readonly #store: GroupStore;
  readonly #topics: TopicLogs;
  readonly #context: GroupContext;
  readonly #loader: GroupLoader;
  readonly #onLoaded: GroupsDeps['onLoaded'];
  readonly #byName = new Map<string, ConsumerGroup>();
  readonly #byId = new Map<number, ConsumerGroup>();
  readonly #sorted = new SortedItems(
    () => this.#byName.values(),
    (a, b) => (a.name < b.name ? -1 : 1),
  );
  readonly #subscriptions = new SortedItems(
    () => this.all().flatMap(({ subscriptions }) => [...subscriptions.values()]),
    (a, b) => a.row.id - b.row.id,
  );
  /** Groups under creation, so that two calls create a group once. */
  readonly #making = new Once<string, ConsumerGroup>();
  readonly #subscribing = new Once<string, ActiveSubscription>();
  /** The number of calls that use a group, which is not deleted meanwhile. */
  readonly #callers = new Map<ConsumerGroup, number>();
  readonly #deleting = new Once<string, void>();
  readonly #chosenStarts: ChosenStarts;
  readonly reservations: Reservations;

  constructor(deps: GroupsDeps) {
    const { store, topics, context, starts, onAckLogRead, onLoaded, loadedTogetherMax } = deps;
    this.#store = store;
    this.#topics = topics;
    this.#context = context;
    this.#chosenStarts = new ChosenStarts(starts);
    this.reservations = new Reservations({
      kept: context.kept,
      find: (name) => this.find(name),
      loaded: () => this.#byName.values(),
      logsOf: (topicId) => topics.partitionLogs(topicId).length,
    });
    this.#onLoaded = onLoaded;
    this.#loader = new GroupLoader({
      store,
      clock: context.clock,
      onListed: (groups) => {
        this.reservations.unloaded.listed(groups);
      },
      onAckLogRead: (found) => {
        this.reservations.unloaded.foundInAckLog(found.sizes);
        onAckLogRead(found);
      },
      take: (groups) => this.#take(groups),
      warn: (fields, message) => {
        context.log.warn(fields, message);
      },
      ...(loadedTogetherMax !== undefined && { loadedTogetherMax }),
    });
  }

  /** Begins to load all groups. The topics must be open. @throws Fault */
  open(): Promise<void> {
    return this.#loader.start();
  }

  /** Stops loading, and rejects the calls that wait for a group. */
  stop(reason: Error): Promise<void> {
    return this.#loader.stop(reason);
  }

  /** Resolves when the group is in memory, if there is one of this name. @throws Fault */
  loaded(name: string): Promise<void> {
    return this.#loader.loaded(name);
  }

  /** Resolves when all groups are in memory. @throws Fault */
  allLoaded(): Promise<void> {
    return this.#loader.allLoaded();
  }

  /** The number of groups that are not in memory yet. */
  get unloaded(): number {
    return this.#loader.unloaded;
  }

  /** Loads groups into memory. Resolves when their first steps are durable. @throws Fault */
  async #take(groups: readonly NamedGroup[]): Promise<void> {
    const missing = groups.filter(({ name }) => !this.#byName.has(name));
    const loaded = await this.#store.loadGroups(missing.map(({ id }) => id));
    const subscriptionIds = loaded.flatMap(({ subscriptions }) => subscriptions.map(({ id }) => id));
    const cursors = new LoadedCursors();
    await this.#store.loadCursors(subscriptionIds, cursors.add);
    const resumed = loaded.map((group) => this.#resume(group, cursors));
    this.#store.cursorsLoaded(subscriptionIds);
    // Each group counts itself by now, and one that is gone needs nothing.
    for (const { id } of missing) this.reservations.unloaded.loaded(id);
    await Promise.all(resumed);
  }

  /** Ignores subscriptions to a topic that was deleted meanwhile, which has no logs. */
  async #resume(loaded: LoadedGroup, found: LoadedCursors): Promise<void> {
    const group = ConsumerGroup.load(loaded, this.#context);
    this.#add(group);
    for (const row of loaded.subscriptions) {
      const topicLogs = this.#topics.partitionLogs(row.topicId);
      const name = topicLogs[0]?.address.topicName;
      if (name === undefined) continue;
      const lanes = this.#topics.lanes(row.topicId);
      const cursors = found.of(row.id, lanes);
      const logs = topicLogs.map((log) => {
        return { log, cursor: cursors[placeInTopic(lanes, log.address)] ?? cursorOf(begunAt(log.startOffset)) };
      });
      for (const feed of group.addSubscription(row, { name, lanes }, logs).logs) {
        if (found.inAckLog(feed.cursor)) this.#context.rounds.loaded(feed);
      }
      this.#subscriptions.changed();
    }
    await group.resume(loaded.snapshot.assignments);
    this.#onLoaded(group, loaded);
  }

  /** The group, for which the caller has waited. */
  find(name: string): ConsumerGroup | undefined {
    const group = this.#byName.get(name);
    assert(group !== undefined || !this.#loader.isUnloaded(name), `group ${name} is used before it is loaded`);
    return group;
  }

  /** @throws Rejection GROUP_NOT_FOUND */
  get(name: string): ConsumerGroup {
    const group = this.find(name);
    if (group !== undefined) return group;
    refuseIfUnsure(this.#context);
    throw groupNotFound({ group: name });
  }

  /** The groups in memory, ordered by name. */
  all(): readonly ConsumerGroup[] {
    return this.#sorted.all;
  }

  /** The subscriptions of all groups in memory, ordered by id. */
  subscriptions(): readonly ActiveSubscription[] {
    return this.#subscriptions.all;
  }

  ofSubscription({ row }: { readonly row: Pick<SubscriptionRow, 'groupId'> }): ConsumerGroup {
    return present(this.#byId.get(row.groupId), 'a subscription ends before its group');
  }

  #add(group: ConsumerGroup): void {
    this.#byName.set(group.name, group);
    this.#byId.set(group.id, group);
    this.#sorted.changed();
  }

  #remove(group: ConsumerGroup): void {
    this.#byName.delete(group.name);
    this.#byId.delete(group.id);
    this.#sorted.changed();
    this.#subscriptions.changed();
  }

  /** Finds or creates the group. */
  async demand(name: string): Promise<ConsumerGroup> {
    return this.find(name) ?? this.#making.run(name, () => this.#make(name));
  }

  async #make(name: string): Promise<ConsumerGroup> {
    refuseUnlessMayGrow(this.#context.mayGrow);
    const id = await this.#store.createGroup(name);
    const group = ConsumerGroup.load(
      { id, name, snapshot: { generation: 0, members: [], assignments: [] } },
      this.#context,
    );
    this.#add(group);
    return group;
  }

  /**
   * Runs `work` on the group, which is not deleted meanwhile. Creates the group if it does not
   * exist or is being deleted.
   */
  async enter<T>(name: string, work: (group: ConsumerGroup) => Promise<T>): Promise<T> {
    let group = await this.demand(name);
    while (this.#deleting.has(name) || this.#byName.get(name) !== group) {
      await this.#deleting.endedOf(name);
      group = await this.demand(name);
    }
    return this.occupy(group, work);
  }

  /** Runs `work` on the group, which is not deleted meanwhile. @throws Rejection GROUP_NOT_FOUND */
  async within<T>(name: string, work: (group: ConsumerGroup) => Promise<T>): Promise<T> {
    while (this.#deleting.has(name)) await this.#deleting.endedOf(name);
    return this.occupy(this.get(name), work);
  }

  /** Runs `work` on a group that is not being deleted, and prevents its deletion meanwhile. */
  async occupy<T>(group: ConsumerGroup, work: (group: ConsumerGroup) => Promise<T>): Promise<T> {
    this.#callers.set(group, (this.#callers.get(group) ?? 0) + 1);
    try {
      return await work(group);
    } finally {
      const others = present(this.#callers.get(group), 'a group counts its callers until they leave') - 1;
      if (others > 0) this.#callers.set(group, others);
      else this.#callers.delete(group);
    }
  }

  /**
   * Deletes the group with its subscriptions and cursors. A member that joins at the same time
   * either comes first, and the group stays, or comes later, and joins a new group. @throws
   * Rejection GROUP_NOT_FOUND, GROUP_NOT_EMPTY
   */
  async delete(name: string): Promise<void> {
    while (this.#deleting.has(name)) await this.#deleting.endedOf(name);
    const group = this.get(name);
    if (this.#callers.has(group)) throw groupNotEmpty({ group: name, members: 0 });
    refuseUnlessEmpty(group);
    await this.#deleting.run(name, () => this.#delete(group));
  }

  #delete(group: ConsumerGroup): Promise<void> {
    const feeds = [...group.subscriptions.values()].flatMap(({ logs }) => logs);
    return this.#context.moves.whileStill(feeds, () => this.#deleteStill(group));
  }

  async #deleteStill(group: ConsumerGroup): Promise<void> {
    await group.end();
    await this.#context.writer.settle((store) => store.deleteGroup(group.id));
    this.#remove(group);
    this.#chosenStarts.forgetOf({ groupId: group.id });
    for (const { logs } of group.subscriptions.values()) for (const log of logs) this.#context.rounds.forget(log);
    await group.settled();
    group.stop(null);
  }

  /** The ids of topics by name. @throws Rejection TOPIC_NOT_FOUND */
  topicIds(names: readonly string[]): number[] {
    return names.map((name) => this.topicId(name));
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

  topicId(name: string): number {
    const topic = this.#topics.topic(name);
    if (topic !== undefined) return topic.id;
    throw topicNotFound({ topic: name });
  }

  /** Creates the missing subscriptions of the group to the topics, which begin at `start`. */
  async subscribe(group: ConsumerGroup, topics: readonly string[], start: StartPosition): Promise<void> {
    this.topicIds(topics);
    await Promise.all(topics.map((topic) => this.demandSubscription(group, topic, start)));
  }

  async demandSubscription(group: ConsumerGroup, topic: string, start: StartPosition): Promise<ActiveSubscription> {
    const topicId = this.topicId(topic);
    const known = group.subscriptions.get(topicId);
    if (known !== undefined) return known;
    refuseUnlessMayGrow(this.#context.mayGrow);
    const key = `${group.id}/${topicId}`;
    return this.#subscribing.run(key, () => this.#makeSubscription(group, topicId, start));
  }

  async #makeSubscription(group: ConsumerGroup, topicId: number, start: StartPosition): Promise<ActiveSubscription> {
    const logs = this.#topics.partitionLogs(topicId);
    const lanes = this.#topics.lanes(topicId);
    const name = logs[0]?.address.topicName ?? '';
    const [row, offsets] = await this.#chosenStarts.create(
      { groupId: group.id, topicId, logs: logs.length },
      () => startOffsets(start, logs, lanes),
      async (chosen) => {
        const offsets = chosen.map((offset, at) => ({
          ...placeOf(present(logs[at], 'each start is that of a log')),
          offset,
        }));
        const creating = this.#store.createSubscriptions([{ groupId: group.id, topicId, offsets }]);
        // The topic may be deleted meanwhile. The store refuses the row then, or deletes it.
        const [created] = await creating.finally(() => this.#refuseIfGone(topicId, name));
        if (created === undefined) throw new Error('the store made no subscription');
        return [created, chosen] as const;
      },
    );
    // The topic may have grown meanwhile. New logs begin at their start, as in the database.
    const cursors = this.#topics.partitionLogs(topicId).map((log, at) => {
      const committedOffset = offsets[at] ?? log.startOffset;
      return { log, cursor: cursorOf(begunAt(committedOffset)) };
    });
    this.#subscriptions.changed();
    return group.addSubscription(row, { name, lanes }, cursors);
  }

  #refuseIfGone(topicId: number, topic: string): void {
    if (this.#topics.topic(topic)?.id !== topicId) throw topicNotFound({ topic });
  }

  /** Adds the new partitions to all groups. Groups that subscribe later have them anyway. */
  async topicGrown(topicId: number): Promise<void> {
    const logs = this.#topics.partitionLogs(topicId);
    await Promise.all(this.all().map((group) => group.growTopic(topicId, logs)));
  }

  /**
   * Runs the deletion of a topic when none of its records is MOVING, and removes all subscriptions
   * to the topic.
   */
  async deleteTopic(topicId: number, work: () => Promise<void>): Promise<void> {
    const feeds = this.all().flatMap(({ subscriptions }) => subscriptions.get(topicId)?.logs ?? []);
    await this.#context.moves.whileStill(feeds, async () => {
      await work();
      this.#chosenStarts.forgetOf({ topicId });
      const removed = this.all().map((group) => group.removeSubscription(topicId));
      this.#subscriptions.changed();
      await Promise.all(removed);
    });
  }

  /** @throws Rejection SUBSCRIPTION_NOT_FOUND */
  subscription(groupName: string, topicName: string): { group: ConsumerGroup; subscription: ActiveSubscription } {
    const group = this.find(groupName);
    const topic = this.#topics.topic(topicName);
    const subscription = topic === undefined ? undefined : group?.subscriptions.get(topic.id);
    if (group !== undefined && subscription !== undefined) return { group, subscription };
    throw subscriptionNotFound({ group: groupName, topic: topicName });
  }

  async cancel({ group, subscription }: { group: ConsumerGroup; subscription: ActiveSubscription }): Promise<void> {
    await this.#context.moves.whileStill(subscription.logs, async () => {
      await this.#store.cancelSubscription(subscription.row.id);
      const removed = group.removeSubscription(subscription.row.topicId);
      this.#subscriptions.changed();
      await removed;
    });
  }
}

function placeOf({ address: { partition, lane } }: PartitionLog): { partition: number; lane: number } {
  return { partition, lane };
}
