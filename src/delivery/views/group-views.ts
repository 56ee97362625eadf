import { limits } from '../../limits/limits.ts';
import type { GroupContext } from '../groups/context.ts';
import type { ConsumedTopic } from '../../metrics/consumption.ts';
import { consumedOf } from './consumed.ts';
import type { Groups } from '../groups/groups.ts';
import type { GroupStore, StoredRebalance } from '../ports/store.ts';
import type { GroupFilter, GroupSummary, GroupView } from '../ports/views.ts';
import {
  countsOf,
  GroupSums,
  isShown,
  summaryOf,
  lagOf,
  viewOf,
  type AppendedLogs,
  type DeliveryCounts,
} from './describe.ts';

/** The groups as answers and metrics show them. */
export class GroupViews {
  readonly #groups: Groups;
  readonly #store: Pick<GroupStore, 'loadRebalances'>;
  readonly #context: GroupContext;
  readonly #sums: GroupSums;
  readonly #topics: AppendedLogs;

  constructor(groups: Groups, store: Pick<GroupStore, 'loadRebalances'>, context: GroupContext, topics: AppendedLogs) {
    this.#groups = groups;
    this.#store = store;
    this.#context = context;
    this.#sums = new GroupSums(context.clock, topics);
    this.#topics = topics;
  }

  /** @throws Rejection GROUP_NOT_FOUND */
  describe(name: string): GroupView {
    return viewOf(this.#groups.inMemory.get(name));
  }

  /** The names of the groups that the filter selects, in order. */
  names(filter: GroupFilter): string[] {
    const shown = this.#groups.inMemory.all().filter((group) => isShown(group, filter));
    return shown.map(({ name }) => name);
  }

  /** The group as a list shows it. @throws Rejection GROUP_NOT_FOUND */
  summary(name: string): GroupSummary {
    return summaryOf(this.#groups.inMemory.get(name), limits.listedTopicsMax);
  }

  /**
   * The last rebalances that have ended, the newest first. @throws Rejection GROUP_NOT_FOUND, Fault
   */
  async rebalances(name: string): Promise<StoredRebalance[]> {
    return this.#store.loadRebalances(this.#groups.inMemory.get(name).id);
  }

  /** The subscriptions of all groups, for metrics of each. The caller takes a few at a time. */
  *consumed(): Generator<ConsumedTopic> {
    for (const group of this.#groups.inMemory.all()) {
      for (const subscription of group.subscriptions.values()) {
        yield consumedOf(group, subscription, lagOf(subscription, this.#topics));
      }
    }
  }

  /** The numbers for the metrics. */
  counts(): DeliveryCounts {
    return countsOf(this.#sums.of(this.#groups.inMemory.all(), this.#groups.unloaded), this.#context);
  }
}
