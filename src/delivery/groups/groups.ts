import { present } from '../../errors/present.ts';
import { groupNotEmpty } from '../../errors/rejections/groups.ts';
import { Once } from '../../time/once.ts';
import { refuseUnlessMayGrow } from '../kept/growth.ts';
import { Reservations } from '../kept/reservations.ts';
import type { FoundInAckLog, GroupEnd, GroupStore, LoadedGroup, NamedGroup } from '../ports/store.ts';
import { LoadedCursors } from '../subscriptions/subscription.ts';
import { ConsumerGroup } from './consumer-group.ts';
import type { GroupContext } from './context.ts';
import { GroupLoader } from './group-loader.ts';
import { LoadedGroups } from './loaded-groups.ts';
import { refuseUnlessEmpty } from './refusals.ts';
import { Subscriptions, type SubscriptionsDeps } from './subscriptions.ts';

interface GroupsDeps extends SubscriptionsDeps {
  readonly store: GroupStore;
  readonly onAckLogRead: (found: FoundInAckLog) => void;
  /** Called when the group is in memory and its first step is durable. */
  readonly onLoaded: (group: ConsumerGroup, loaded: LoadedGroup) => void;
  /** The number of groups that are loaded together. Default: 100. */
  readonly loadedTogetherMax?: number;
}

/** Loads, creates and deletes groups. Their readers take them from `inMemory`. */
export class Groups {
  readonly inMemory: LoadedGroups;
  readonly subscriptions: Subscriptions;
  readonly reservations: Reservations;
  readonly #store: GroupStore;
  readonly #context: GroupContext;
  readonly #loader: GroupLoader;
  readonly #onLoaded: GroupsDeps['onLoaded'];
  /** Groups under creation, so that two calls create a group once. */
  readonly #making = new Once<string, ConsumerGroup>();
  /** The number of calls that use a group, which is not deleted meanwhile. */
  readonly #callers = new Map<ConsumerGroup, number>();
  readonly #deleting = new Once<string, void>();

  constructor(deps: GroupsDeps) {
    const { store, context, onAckLogRead, onLoaded, loadedTogetherMax } = deps;
    this.#store = store;
    this.#context = context;
    this.#onLoaded = onLoaded;
    this.inMemory = new LoadedGroups({ context, isUnloaded: (name) => this.#loader.isUnloaded(name) });
    this.subscriptions = new Subscriptions(this.inMemory, deps);
    this.reservations = new Reservations({
      kept: context.kept,
      find: (name) => this.inMemory.find(name),
      loaded: () => this.inMemory.all(),
      logsOf: (topicId) => this.subscriptions.logsOf(topicId),
    });
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
      take: (groups, isUrgent) => this.#take(groups, isUrgent),
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
  async #take(groups: readonly NamedGroup[], isUrgent: boolean): Promise<void> {
    const missing = groups.filter(({ name }) => !this.inMemory.has(name));
    const loaded = await this.#store.loadGroups(missing.map(({ id }) => id));
    const subscriptionIds = loaded.flatMap(({ subscriptions }) => subscriptions.map(({ id }) => id));
    const topicIds = loaded.flatMap(({ subscriptions }) => subscriptions.map((row) => row.topicId));
    await this.subscriptions.untilOpen(topicIds, isUrgent);
    const cursors = new LoadedCursors(await this.#store.loadGaps(subscriptionIds));
    await this.#store.loadCursors(subscriptionIds, cursors.add);
    const resumed = loaded.map((group) => this.#resume(group, cursors));
    this.#store.cursorsLoaded(subscriptionIds);
    // Each group counts itself by now, and one that is gone needs nothing.
    for (const { id } of missing) this.reservations.unloaded.loaded(id);
    await Promise.all(resumed);
  }

  async #resume(loaded: LoadedGroup, cursors: LoadedCursors): Promise<void> {
    const group = ConsumerGroup.load(loaded, this.#context);
    this.inMemory.add(group);
    for (const row of loaded.subscriptions) this.subscriptions.resume(group, row, cursors);
    await group.resume(loaded.snapshot.assignments);
    this.#onLoaded(group, loaded);
  }

  /** Finds or creates the group. */
  async #demand(name: string): Promise<ConsumerGroup> {
    return this.inMemory.find(name) ?? this.#making.run(name, () => this.#make(name));
  }

  async #make(name: string): Promise<ConsumerGroup> {
    refuseUnlessMayGrow(this.#context.mayGrow);
    const id = await this.#store.createGroup(name);
    const group = ConsumerGroup.load(
      { id, name, snapshot: { generation: 0, members: [], assignments: [] } },
      this.#context,
    );
    this.inMemory.add(group);
    return group;
  }

  /**
   * Runs `work` on the group, which is not deleted meanwhile. Creates the group if it does not
   * exist or is being deleted.
   */
  async enter<T>(name: string, work: (group: ConsumerGroup) => Promise<T>): Promise<T> {
    let group = await this.#demand(name);
    while (this.#deleting.has(name) || !this.inMemory.isCurrent(group)) {
      await this.#deleting.endedOf(name);
      group = await this.#demand(name);
    }
    return this.occupy(group, work);
  }

  /** Runs `work` on the group, which is not deleted meanwhile. @throws Rejection GROUP_NOT_FOUND */
  async within<T>(name: string, work: (group: ConsumerGroup) => Promise<T>): Promise<T> {
    while (this.#deleting.has(name)) await this.#deleting.endedOf(name);
    return this.occupy(this.inMemory.get(name), work);
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
  async delete(name: string, reason: GroupEnd = 'GROUP_DELETED'): Promise<void> {
    while (this.#deleting.has(name)) await this.#deleting.endedOf(name);
    const group = this.inMemory.get(name);
    if (this.#callers.has(group)) throw groupNotEmpty({ group: name, members: 0 });
    refuseUnlessEmpty(group);
    await this.#deleting.run(name, () => this.#delete(group, reason));
  }

  #delete(group: ConsumerGroup, reason: GroupEnd): Promise<void> {
    const feeds = [...group.subscriptions.values()].flatMap(({ logs }) => logs);
    return this.#context.moves.whileStill(feeds, () => this.#deleteStill(group, reason));
  }

  async #deleteStill(group: ConsumerGroup, reason: GroupEnd): Promise<void> {
    if (reason === 'GROUP_DELETED') await group.end();
    const owed = Array.from(group.subscriptions.values(), (subscription) => {
      return { subscriptionId: subscription.row.id, records: subscription.owedRecords() };
    });
    const isGone = await this.#context.writer.settle((store) => store.endGroup(group.id, reason, owed));
    if (!isGone) throw groupNotEmpty({ group: group.name, members: 0 });
    if (reason === 'OFFSET_RETENTION') await group.end();
    this.inMemory.remove(group);
    this.subscriptions.forgetGroup(group);
    for (const { logs } of group.subscriptions.values()) for (const log of logs) this.#context.rounds.forget(log);
    await group.settled();
    group.stop(null);
  }
}
