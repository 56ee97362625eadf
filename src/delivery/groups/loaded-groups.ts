import assert from 'node:assert/strict';
import { present } from '../../errors/present.ts';
import { groupNotFound } from '../../errors/rejections/groups.ts';
import { SortedItems } from '../../log/sorted-items.ts';
import { refuseIfUnsure } from '../dispatch/not-owner.ts';
import type { SubscriptionRow } from '../ports/store.ts';
import type { ActiveSubscription } from '../subscriptions/subscription.ts';
import type { ConsumerGroup } from './consumer-group.ts';
import type { GroupContext } from './context.ts';

interface LoadedGroupsDeps {
  readonly context: Pick<GroupContext, 'mayDeliver'>;
  /** Whether the database has a group of this name that is not in memory yet. */
  readonly isUnloaded: (name: string) => boolean;
}

/** The groups in memory with their subscriptions, for their readers. */
export class LoadedGroups {
  readonly #d: LoadedGroupsDeps;
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

  constructor(deps: LoadedGroupsDeps) {
    this.#d = deps;
  }

  /** Whether the group is in memory. A caller of `find` has waited for that. */
  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** Whether this is still the group of its name. */
  isCurrent(group: ConsumerGroup): boolean {
    return this.#byName.get(group.name) === group;
  }

  /** The group, for which the caller has waited. */
  find(name: string): ConsumerGroup | undefined {
    const group = this.#byName.get(name);
    assert(group !== undefined || !this.#d.isUnloaded(name), `group ${name} is used before it is loaded`);
    return group;
  }

  /** @throws Rejection GROUP_NOT_FOUND */
  get(name: string): ConsumerGroup {
    const group = this.find(name);
    if (group !== undefined) return group;
    refuseIfUnsure(this.#d.context);
    throw groupNotFound({ group: name });
  }

  /** Ordered by name. */
  all(): readonly ConsumerGroup[] {
    return this.#sorted.all;
  }

  /** The subscriptions of all groups, ordered by id. */
  subscriptions(): readonly ActiveSubscription[] {
    return this.#subscriptions.all;
  }

  ofSubscription({ row }: { readonly row: Pick<SubscriptionRow, 'groupId'> }): ConsumerGroup {
    return present(this.#byId.get(row.groupId), 'a subscription ends before its group');
  }

  add(group: ConsumerGroup): void {
    this.#byName.set(group.name, group);
    this.#byId.set(group.id, group);
    this.#sorted.changed();
  }

  remove(group: ConsumerGroup): void {
    this.#byName.delete(group.name);
    this.#byId.delete(group.id);
    this.#sorted.changed();
    this.#subscriptions.changed();
  }

  /** A group has got a subscription, or has lost one. */
  subscriptionsChanged(): void {
    this.#subscriptions.changed();
  }
}
